"""Responses that are not of Resource Manager, as those of a proxy: they say nothing about resources."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from arm_fake import SUBSCRIPTION, ArmFake
from arm_requests import KEY, detached, opened, remaining, settings_for, wanted
from fake_server import Answer, FakeServer

from cloud_tasks.errors import LaunchRefusedError, ProviderError
from cloud_tasks.model import Architecture, InstanceState
from cloud_tasks.plugin import CheckContext, Compute, ComputeContext
from cloud_tasks_azure.compute.arm import Arm
from cloud_tasks_azure.compute.backend import AzureCompute
from cloud_tasks_azure.compute.image_resolver import ImageResolver
from cloud_tasks_azure.compute.listing import get_vm, list_parts, list_skus, list_usages, list_vms, vm_statuses
from cloud_tasks_azure.doctor_compute import check_compute
from cloud_tasks_azure.settings import AzureSettings


def at(server: FakeServer) -> AzureSettings:
    return AzureSettings(
        subscription_id=SUBSCRIPTION,
        management_endpoint=server.url,
        operation_poll_seconds=0.02,
        ssh_public_key=KEY,
    )


def states(compute: Compute) -> list[InstanceState]:
    return [each.state for each in compute.instances("job")]


@pytest.mark.parametrize("page", ["<html>sign in</html>", {}, []])
def test_listing_that_is_not_azures_is_no_empty_one(page: Any) -> None:
    server = FakeServer()
    server.route("*", ".*", lambda request: Answer(body=page))
    with (
        server.serving(),
        closing(Arm(at(server))) as arm,
    ):
        listings: tuple[Callable[[], object], ...] = (
            lambda: list_vms(arm, None),
            lambda: vm_statuses(arm),
            lambda: list_parts(arm),
            lambda: list_skus(arm, "eastus"),
            lambda: list_usages(arm, "eastus"),
            lambda: ImageResolver(arm).list(),
        )
        for listed in listings:
            with pytest.raises(ProviderError, match="invalid response from Azure") as caught:
                listed()
            assert caught.value.transient


OTHERS = pytest.mark.parametrize(
    "answer",
    [
        Answer(body="<html>sign in</html>"),
        Answer(body={}),
        Answer(status=302),
        Answer(status=404, body="<html>not found</html>"),
    ],
    ids=lambda answer: f"{answer.status} {answer.body}",
)
"""Responses that are not of Resource Manager, as of a proxy."""


def assert_unknown(call: Callable[[], object]) -> None:
    with pytest.raises(ProviderError, match="invalid response from Azure") as caught:
        call()
    assert caught.value.transient
    assert not isinstance(caught.value, LaunchRefusedError)


@contextmanager
def answering(fake: ArmFake, method: str, path: str, answer: Answer) -> Iterator[None]:
    """Answer calls instead of the fake."""
    fake.server._routes.insert(0, (method, re.compile(path), lambda request: answer))
    yield
    fake.server._routes.pop(0)


@OTHERS
def test_creation_that_another_answers_has_an_unknown_outcome(fake: ArmFake, answer: Answer) -> None:
    request = wanted()
    with opened(fake) as compute:
        for path in (".*/virtualNetworks/.*", ".*/networkSecurityGroups/.*", ".*/virtualMachines/.*"):
            with answering(fake, "PUT", path, answer):
                assert_unknown(lambda: compute.launch(request))
        assert remaining(fake)[0] == []
        assert compute.launch(request).state is InstanceState.RUNNING
        assert states(compute) == [InstanceState.RUNNING]


@OTHERS
def test_group_that_another_answers_is_not_created(fake: ArmFake, answer: Answer) -> None:
    with opened(fake) as compute:
        with answering(fake, "PUT", ".*/resourceGroups/[^/]+", answer):
            assert_unknown(lambda: compute.launch(wanted()))
        assert compute.launch(wanted()).state is InstanceState.RUNNING


@OTHERS
def test_deletion_that_another_answers_has_deleted_nothing(fake: ArmFake, answer: Answer) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted()).instance_id
        detached(fake, name)
        for path in (".*/virtualMachines/.*", ".*/networkInterfaces/.*", ".*/disks/.*"):
            with answering(fake, "DELETE", path, answer):
                assert_unknown(lambda: compute.terminate([name]))
        compute.terminate([name])
        assert not [each for each in remaining(fake)[1] if name in each]


@OTHERS
def test_resource_that_is_not_azures_is_neither_there_nor_missing(answer: Answer) -> None:
    gallery = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.Compute/galleries/g"
    server = FakeServer()
    server.route("*", ".*", lambda request: answer)
    with server.serving(), closing(Arm(at(server))) as arm:
        images = ImageResolver(arm)
        assert_unknown(lambda: get_vm(arm, "g", "v"))
        for name in ("a:b:c:1.0.0", "a:b:c:latest", f"{gallery}/images/i", f"{gallery}/images/i/versions/1.0.0"):
            assert_unknown(lambda name=name: images.resolve(name, Architecture.X86_64, "eastus"))  # type: ignore[misc]
        assert_unknown(AzureCompute(arm, at(server), ComputeContext(job_id="job", region="eastus")).regions)


@OTHERS
def test_checks_that_another_answers_prevent_no_run(fake: ArmFake, answer: Answer) -> None:
    for path in (".*/providers/Microsoft.Compute", ".*/providers/Microsoft.Network", ".*/permissions"):
        with answering(fake, "GET", path, answer):
            found = list(check_compute(settings_for(fake), CheckContext(region="eastus")))
        assert not [each.subject for each in found if each.prevents_run]
