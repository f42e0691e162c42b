"""Instance side: identity and termination notice from the metadata server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from fake_server import Answer, FakeServer, Fault
from gce_metadata import MetadataServer

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceIdentity, TerminationNotice
from cloud_tasks.plugin import InstanceContext
from cloud_tasks.registry import Registry
from cloud_tasks_gcp.instance_side import GceInstanceSide
from cloud_tasks_gcp.settings import GcpSettings

NOW = datetime(2025, 7, 1, 12, 0, tzinfo=UTC)
VALUES = {
    "name": "ct-job-1",
    "zone": "projects/123/zones/us-central1-f",
    "machine-type": "projects/123/machineTypes/e2-small",
    "preempted": "FALSE",
}


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    server = MetadataServer(VALUES, power_off=lambda: None)
    yield server
    server.close()


@pytest.fixture
def side(server: MetadataServer) -> Iterator[GceInstanceSide]:
    side = GceInstanceSide({"GCE_METADATA_HOST": server.host}, now=lambda: NOW)
    yield side
    side.close()


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "condition not met within 20 s"
        time.sleep(0.005)


def test_identity_matches_listing(side: GceInstanceSide) -> None:
    assert side.identity() == InstanceIdentity(instance_id="ct-job-1", zone="us-central1-f", instance_type="e2-small")


def test_identity_is_requested_again_after_failure() -> None:
    server = FakeServer()
    answers = {"name": "ct-job-1", "zone": "projects/1/zones/z-a", "machine-type": "projects/1/machineTypes/e2-small"}
    flavor = {"Metadata-Flavor": "Google"}
    server.route(
        "GET",
        r"/computeMetadata/v1/instance/(?P<key>.+)",
        lambda request: Answer(body=answers[request.groups["key"]], headers=flavor),
    )
    with server.serving():
        side = GceInstanceSide({"GCE_METADATA_HOST": f"127.0.0.1:{server.port}"})
        server.fault = Fault(share=1.0, after_effect=0.0, status=503)
        with pytest.raises(ProviderError, match="503") as failed:
            side.identity()
        assert failed.value.transient
        server.fault = None
        assert side.identity().instance_id == "ct-job-1"


def test_identity_refuses_other_servers() -> None:
    server = FakeServer()
    server.route("GET", ".*", lambda request: "welcome")
    with server.serving(), pytest.raises(ProviderError, match="is not Google's"):
        GceInstanceSide({"GCE_METADATA_HOST": f"127.0.0.1:{server.port}"}).identity()


def test_identity_reports_unreachable_metadata_server() -> None:
    unused = FakeServer()
    port = unused.port
    unused.close()
    side = GceInstanceSide({"GCE_METADATA_HOST": f"127.0.0.1:{port}"})
    with pytest.raises(ProviderError, match="cannot reach the metadata server"):
        side.identity()


def test_termination_notice_without_preemption_is_none(side: GceInstanceSide) -> None:
    assert [side.termination_notice() for _ in range(3)] == [None, None, None]


def test_termination_notice_has_time_of_termination(server: MetadataServer, side: GceInstanceSide) -> None:
    assert side.termination_notice() is None
    server.set("preempted", "TRUE")
    eventually(lambda: side.termination_notice() is not None)
    expected = TerminationNotice(at=NOW + timedelta(seconds=30), reason="preempted by Compute Engine")
    assert side.termination_notice() == expected


def test_termination_notice_stays(server: MetadataServer, side: GceInstanceSide) -> None:
    side.termination_notice()
    server.set("preempted", "TRUE")
    eventually(lambda: side.termination_notice() is not None)
    server.set("preempted", "FALSE")
    assert side.termination_notice() is not None


def test_termination_notice_detects_earlier_preemption(server: MetadataServer, side: GceInstanceSide) -> None:
    server.set("preempted", "TRUE")
    side.termination_notice()
    eventually(lambda: side.termination_notice() is not None)


def test_termination_notice_survives_server_failures() -> None:
    server = FakeServer()
    preempted = {"value": "FALSE"}
    server.route(
        "GET",
        r"/computeMetadata/v1/instance/preempted",
        lambda request: Answer(body=preempted["value"], headers={"Metadata-Flavor": "Google", "ETag": "1"}),
    )
    with server.serving():
        server.fault = Fault(share=1.0, after_effect=0.0, status=None)
        side = GceInstanceSide({"GCE_METADATA_HOST": f"127.0.0.1:{server.port}"})
        assert side.termination_notice() is None
        eventually(lambda: server.struck >= 1)
        preempted["value"] = "TRUE"
        server.fault = None
        eventually(lambda: side.termination_notice() is not None)
        side.close()


def test_termination_notice_does_not_call_server_each_time() -> None:
    server = FakeServer()
    server.route(
        "GET",
        r"/computeMetadata/v1/instance/preempted",
        lambda request: Answer(body="FALSE", headers={"Metadata-Flavor": "Google"}),
    )
    with server.serving():
        side = GceInstanceSide({"GCE_METADATA_HOST": f"127.0.0.1:{server.port}"})
        for _ in range(1000):
            side.termination_notice()
        eventually(lambda: server.calls)
        side.close()
        assert len(server.calls) < 10


def test_open_instance_opens_instance_side(server: MetadataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", server.host)
    backend = Registry(only=["gcp"]).compute("gcp")
    with backend.open_instance(GcpSettings(), InstanceContext(job_id="job")) as side:
        assert side.identity().instance_id == "ct-job-1"


def test_instance_side_imports_no_google_library() -> None:
    program = (
        "import sys; import cloud_tasks_gcp.plugin, cloud_tasks_gcp.instance_side; "
        "print([name for name in sys.modules if name.startswith(('google', 'requests', 'grpc'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_termination_notice_survives_any_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Exception | tuple[str, str]] = [ValueError("planted"), ("TRUE", "1")]

    def request(self: GceInstanceSide, path: str, *, timeout: float) -> tuple[str, str]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(GceInstanceSide, "_request", request)
    side = GceInstanceSide({})
    side.termination_notice()
    eventually(lambda: side.termination_notice() is not None)
    side.close()
