"""Requests to Resource Manager: API versions, refusals, operations."""

from __future__ import annotations

import itertools
import re
from contextlib import closing
from typing import Any

import attrs
import pytest
from arm_fake import SUBSCRIPTION, ArmFake
from arm_requests import KEY, detached, offer, opened, wanted
from fake_server import Answer, FakeServer

from cloud_tasks.errors import LaunchRefusedError, ProviderError
from cloud_tasks.model import InstanceState
from cloud_tasks.plugin import ComputeContext, ImageMaker
from cloud_tasks.registry import Registry
from cloud_tasks_azure.compute.arm import Arm
from cloud_tasks_azure.settings import AzureSettings


def test_listing_with_failed_page_raises(fake: ArmFake) -> None:
    with opened(fake) as compute:
        for _ in range(3):
            compute.launch(wanted())
        fake.page_size, fake.broken_pages = 2, True
        with pytest.raises(ProviderError, match="cannot list") as caught:
            compute.instances("job")
        assert caught.value.transient
        fake.broken_pages = False
        assert len(compute.instances("job")) == 3


def test_requests_name_the_api_version_they_were_written_for(fake: ArmFake, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, set[str]] = {}
    answer = fake.answer

    def recorded(handler: Any, request: Any) -> Answer:
        provider = request.path.rpartition("/providers/")[2].split("/")[0]
        found.setdefault(provider, set()).add(request.query["api-version"])
        return answer(handler, request)

    monkeypatch.setattr(fake, "answer", recorded)
    fake.server._routes.clear()
    fake._routes()
    fake.cloud.times = attrs.evolve(fake.cloud.times, guest_shutdown=0.0)
    with opened(fake, public_address=True) as compute:
        compute.regions(), compute.images(), compute.instance_types(), compute.headroom(offer())
        urn = "Canonical:0001-com-ubuntu-server-jammy:22_04-lts-gen2:latest"
        name = compute.launch(wanted(image=urn)).instance_id
        compute.instances("job"), compute.console_log(name)
        detached(fake, name)
        assert isinstance(compute, ImageMaker)
        compute.make_image(name, "moon")
        compute.terminate([name])
    # Compute is also the provider of the polled operations; its description is of Resource Manager.
    assert found["Microsoft.Compute"] == {"2021-04-01", "2021-07-01", "2023-07-03", "2024-03-02", "2024-07-01"}
    assert found["Microsoft.Network"] == {"2024-05-01"}


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "TooManyRequests"), (409, "SkuNotAvailable"), (409, "MissingSubscriptionRegistration")],
)
def test_refused_request_is_not_repeated_whatever_azure_asks_to_wait(status: int, code: str) -> None:
    server = FakeServer()
    answer = Answer(status=status, body={"error": {"code": code, "message": "wait"}}, headers={"Retry-After": "1200"})
    server.route("*", ".*", lambda request: answer)
    with server.serving():
        backend = Registry(only=["azure"]).compute("azure")
        settings = AzureSettings(subscription_id=SUBSCRIPTION, management_endpoint=server.url, ssh_public_key=KEY)
        with backend.open(settings, ComputeContext(job_id="", region="eastus")) as compute:
            with pytest.raises(ProviderError, match=code):
                compute.instances("job")
            assert len(server.calls) == 1
            with pytest.raises(LaunchRefusedError):
                compute.launch(wanted())
            assert len(server.calls) == 2


@pytest.mark.parametrize(("header", "pause"), [({"Retry-After": "25"}, 25), ({"Retry-After": "900"}, 30), ({}, 3)])
def test_throttled_poll_is_repeated_when_azure_asks_for_it(header: dict[str, str], pause: int) -> None:
    server = FakeServer()
    polls = iter(
        [Answer(status=429, headers=header), Answer(status=202), Answer(status=200, body={"status": "Succeeded"})]
    )
    location = {"Location": f"{server.url}/operation"}
    server.route("PUT", ".*", lambda request: Answer(status=202, headers=location))
    server.route("GET", "/operation", lambda request: attrs.evolve(next(polls), headers={**header, **location}))
    settings = AzureSettings(subscription_id=SUBSCRIPTION, management_endpoint=server.url)
    with server.serving(), closing(Arm(settings)) as arm:
        operation = arm.operation(arm.put("/resourceGroups/g", "2021-04-01", {}))
        operation.update_status()
        assert (operation.finished(), operation.pause) == (False, pause)
        operation.update_status()
        operation.update_status()
        assert operation.finished()


def test_throttled_poll_of_a_creation_does_not_end_it(fake: ArmFake) -> None:
    fake.cloud.times = attrs.evolve(fake.cloud.times, provision=0.2)
    polls = itertools.count()
    answer = fake._operation

    def throttled(request: Any) -> Any:
        if next(polls) < 3:
            return Answer(status=429, body={"error": {"code": "TooManyRequests", "message": "wait"}})
        return answer(request)

    fake.server._routes = [
        (method, pattern, throttled if "operations/" in pattern.pattern else handler)
        for method, pattern, handler in fake.server._routes
    ]
    with opened(fake) as compute:
        assert compute.launch(wanted()).state is InstanceState.RUNNING


def test_operation_polls_respect_retry_after(fake: ArmFake) -> None:
    fake.cloud.times = attrs.evolve(fake.cloud.times, provision=0.5)
    fake.retry_after = "1"
    with opened(fake) as compute:
        compute.launch(wanted())
    polls = [path for _, path in fake.server.calls if re.search(r"/operations/", path)]
    assert len(polls) <= 6
