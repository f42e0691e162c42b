"""The instance side against the overlay's metadata service, and against faulty services."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ec2_instances import Fleet, OverlayInstance, Pace
from ec2_metadata import Metadata
from fake_server import Answer, FakeServer, Request

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceIdentity
from cloud_tasks.plugin import InstanceContext
from cloud_tasks.registry import Registry
from cloud_tasks_aws.instance_side import Ec2InstanceSide
from cloud_tasks_aws.settings import AwsSettings

INSTANCE = "i-0123456789abcdef0"


class MetadataWorld:
    """One instance and its metadata service."""

    def __init__(self, folder: Path) -> None:
        self.server = FakeServer()
        self.fleet = Fleet(folder, base_url=self.server.url, pace=Pace(boot=600), seed=1)
        self.metadata = Metadata(self.fleet, region="us-east-1")
        self.metadata.register(self.server)
        self.fleet.add(
            OverlayInstance(
                instance_id=INSTANCE,
                instance_type="t3.medium",
                zone="us-east-1b",
                spot=True,
                client_token="",
                user_data=b"",
                terminates=True,
                needs_token=True,
                role="",
            )
        )

    @property
    def url(self) -> str:
        return f"{self.server.url}/imds/{INSTANCE}"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[MetadataWorld]:
    world = MetadataWorld(tmp_path)
    with world.server.serving():
        yield world


def test_identity_is_read_from_the_metadata_service(world: MetadataWorld) -> None:
    backend = Registry(only=["aws"]).compute("aws")
    with backend.open_instance(AwsSettings(metadata_url=world.url), InstanceContext(job_id="j")) as side:
        assert side.identity() == InstanceIdentity(instance_id=INSTANCE, zone="us-east-1b", instance_type="t3.medium")


def test_session_token_is_reused(world: MetadataWorld) -> None:
    side = Ec2InstanceSide(AwsSettings(metadata_url=world.url))
    for _ in range(3):
        side.termination_notice()
    assert [method for method, _ in world.server.calls].count("PUT") == 1


def test_rejected_session_token_is_replaced(world: MetadataWorld) -> None:
    side = Ec2InstanceSide(AwsSettings(metadata_url=world.url))
    side.identity()
    world.metadata.forget_tokens()
    assert side.termination_notice() is None
    assert [method for method, _ in world.server.calls].count("PUT") == 2


def test_termination_notice_reports_spot_interruption(world: MetadataWorld) -> None:
    side = Ec2InstanceSide(AwsSettings(metadata_url=world.url))
    assert side.termination_notice() is None
    world.fleet.interrupt(INSTANCE, notice=600)
    notice = side.termination_notice()
    assert notice is not None
    assert notice.reason == "spot interruption (terminate)"
    due = world.fleet.all()[0].interruption_at
    assert due is not None
    assert notice.at == due.replace(microsecond=0)


def test_rebalance_recommendation_is_a_notice_only_if_enabled(world: MetadataWorld) -> None:
    instance = world.fleet.all()[0]
    enabled = Ec2InstanceSide(AwsSettings(metadata_url=world.url, heed_rebalance=True))
    assert enabled.termination_notice() is None
    world.fleet.recommend_rebalance(INSTANCE)
    assert instance.rebalance_at is not None
    notice = enabled.termination_notice()
    assert notice is not None
    assert (notice.at, notice.reason) == (None, "rebalance recommendation")
    assert Ec2InstanceSide(AwsSettings(metadata_url=world.url)).termination_notice() is None


def test_identity_of_unknown_instance_raises(world: MetadataWorld) -> None:
    side = Ec2InstanceSide(AwsSettings(metadata_url=f"{world.server.url}/imds/i-gone"))
    with pytest.raises(ProviderError, match="returned no instance id") as unknown:
        side.identity()
    assert unknown.value.transient


@pytest.mark.parametrize(("status", "transient"), [(403, False), (500, True)])
def test_refused_session_token_raises(status: int, transient: bool) -> None:
    with FakeServer().serving() as server:
        server.route("PUT", "/latest/api/token", lambda request: Answer(status=status, body="no"))
        with pytest.raises(ProviderError, match=f"refused a session token: {status}") as refused:
            Ec2InstanceSide(AwsSettings(metadata_url=server.url)).identity()
    assert refused.value.transient is transient


def test_repeatedly_rejected_session_token_raises() -> None:
    with FakeServer().serving() as server:
        server.route("PUT", "/latest/api/token", lambda request: "token")
        server.route("GET", ".*", lambda request: Answer(status=401, body="no"))
        with pytest.raises(ProviderError, match="answered 401"):
            Ec2InstanceSide(AwsSettings(metadata_url=server.url)).identity()
        assert len(server.calls) == 4


@pytest.mark.parametrize("text", ["no json", "[]", '{"time": 7}', '{"time": "soon"}'])
def test_invalid_interruption_notice_is_still_a_notice(text: str) -> None:
    def notice(request: Request) -> str:
        return text

    with FakeServer().serving() as server:
        server.route("PUT", "/latest/api/token", lambda request: "token")
        server.route("GET", "/latest/meta-data/spot/instance-action", notice)
        found = Ec2InstanceSide(AwsSettings(metadata_url=server.url)).termination_notice()
    assert found is not None
    assert found.at is None


def test_unreachable_metadata_service_is_transient() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ProviderError, match="cannot be reached") as failed:
        Ec2InstanceSide(AwsSettings(metadata_url=url)).identity()
    assert failed.value.transient


def test_metadata_request_times_out() -> None:
    release = threading.Event()

    def hang(request: Request) -> str:
        release.wait(20)
        return "late"

    with FakeServer().serving() as server:
        server.route("PUT", "/latest/api/token", hang)
        with pytest.raises(ProviderError, match="cannot be reached"):
            Ec2InstanceSide(AwsSettings(metadata_url=server.url)).identity()
        release.set()


def test_metadata_request_ignores_proxies(world: MetadataWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert Ec2InstanceSide(AwsSettings(metadata_url=world.url)).identity().instance_id == INSTANCE
