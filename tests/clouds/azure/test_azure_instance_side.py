"""The instance side, over HTTP against a metadata service."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from arm_metadata import MetadataServer

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import InstanceContext
from cloud_tasks.plugin.kit import MetadataService
from cloud_tasks.registry import Registry
from cloud_tasks.testing import eventually
from cloud_tasks_azure.instance_side import AzureInstanceSide
from cloud_tasks_azure.settings import AzureSettings

COMPUTE = {"name": "ct-job-1", "location": "eastus", "zone": "2", "vmSize": "Standard_D2s_v5"}


class Service:
    """A metadata service and its client."""

    def __init__(self, **compute: str) -> None:
        self.power_offs = 0
        self.approvals: list[int] = []
        self.server = MetadataServer(
            {**COMPUTE, **compute}, power_off=lambda: None, approve=lambda: self.approvals.append(1)
        )
        self.settings = AzureSettings(metadata_url=self.server.url)
        self.side = AzureInstanceSide(self.settings, pause=0.02)


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.side.close()
    service.server.close()


def test_identity_matches_the_listing(service: Service) -> None:
    identity = service.side.identity()
    assert (identity.instance_id, identity.zone, identity.instance_type) == ("ct-job-1", "eastus-2", "Standard_D2s_v5")


def test_identity_zone_without_zones_is_the_location() -> None:
    service = Service(zone="")
    try:
        assert service.side.identity().zone == "eastus"
    finally:
        service.server.close()


def test_identity_is_requested_again_after_an_error(service: Service) -> None:
    service.server.broken = 1
    with pytest.raises(ProviderError, match="answered 500") as caught:
        service.side.identity()
    assert caught.value.transient
    assert service.side.identity().instance_id == "ct-job-1"


def test_identity_of_unreachable_service_is_transient() -> None:
    side = AzureInstanceSide(AzureSettings(metadata_url="http://127.0.0.1:1"))
    with pytest.raises(ProviderError) as caught:
        side.identity()
    assert caught.value.transient
    assert side.termination_notice() is None
    side.close()


def test_termination_notice_has_the_eviction_time_and_is_kept(service: Service) -> None:
    assert service.side.termination_notice() is None
    service.server.announce(seconds=30)
    eventually(service.side.termination_notice)
    notice = service.side.termination_notice()
    assert notice is not None
    assert notice.at is not None
    assert timedelta(0) < notice.at - datetime.now(UTC) <= timedelta(seconds=30)
    assert notice.reason == "evicted by Azure"
    service.server.broken = 100
    assert service.side.termination_notice() == notice


@pytest.mark.parametrize(("kind", "approved"), [("Terminate", True), ("Redeploy", False), ("Reboot", False)])
def test_termination_notice_covers_every_terminating_event_and_no_restart_is_approved(
    service: Service, kind: str, approved: bool
) -> None:
    event = service.server.announce(kind)
    eventually(service.side.termination_notice)
    service.side.close()
    assert service.server.approved == ([event] if approved else [])


def test_termination_notice_of_a_restart_waits_until_it_is_near(service: Service) -> None:
    service.server.announce("Redeploy", seconds=6 * 86400)
    polls = service.server.polls
    service.side.termination_notice()
    eventually(lambda: service.server.polls > polls + 2)
    assert service.side.termination_notice() is None
    # An eviction announced later comes first.
    event = service.server.announce()
    eventually(service.side.termination_notice)
    service.side.close()
    assert service.server.approved == [event]


def test_termination_notice_ignores_freeze_other_vms_and_errors(service: Service) -> None:
    service.server.announce("Freeze")
    service.server._events.append({"EventId": "1", "EventType": "Preempt", "Resources": ["another-vm"]})
    service.server.broken = 3
    assert service.side.termination_notice() is None
    eventually(lambda: service.server.broken == 0)
    assert service.side.termination_notice() is None
    event = service.server.announce()
    eventually(service.side.termination_notice)
    service.side.close()
    assert service.server.approved == [event]


def test_close_approves_the_event_once(service: Service) -> None:
    event = service.server.announce()
    eventually(service.side.termination_notice)
    assert service.server.approved == []
    service.side.close()
    service.side.close()
    assert service.server.approved == [event]


def test_close_without_event_approves_none(service: Service) -> None:
    service.side.termination_notice()
    service.side.close()
    assert service.server.approved == []


def test_close_ignores_a_failed_approval(service: Service) -> None:
    service.server.announce()
    eventually(service.side.termination_notice)
    service.server.broken = 1
    service.side.close()
    assert service.server.approved == []


def test_open_instance_approves_the_event_at_exit(service: Service) -> None:
    backend = Registry(only=["azure"]).compute("azure")
    event = service.server.announce()
    with backend.open_instance(service.settings, InstanceContext(job_id="job")) as side:
        eventually(side.termination_notice)
        assert service.server.approved == []
    assert service.server.approved == [event]


def test_instance_side_imports_no_sdk() -> None:
    import subprocess

    modules = "cloud_tasks_azure.plugin, cloud_tasks_azure.instance_side"
    code = f"import sys, {modules}; print([name for name in sys.modules if name.startswith('azure')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_notice_survives_any_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def request(self: MetadataService, *_: object, **__: object) -> str:
        answer = answers.pop(0) if answers else {"Events": [{"EventType": "Preempt", "Resources": []}]}
        if isinstance(answer, Exception):
            raise answer
        return json.dumps(answer)

    answers: list[object] = [ValueError("planted"), {"Events": [{"EventType": ["odd"]}]}, {"Events": 5}]
    monkeypatch.setattr(MetadataService, "request", request)
    side = AzureInstanceSide(AzureSettings(metadata_url="http://127.0.0.1:1"), pause=0.001)
    side.termination_notice()
    eventually(lambda: side.termination_notice() is not None)
