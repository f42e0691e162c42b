"""The permissions of the printed roles are those that the calls of controller and worker require."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from gce_fake import GceFake
from gce_requests import launch_request, offer, open_compute, remaining
from pubsub_faults import PubSubFaults, failing_pubsub

from cloud_tasks.errors import LaunchRefusedError, ProviderError
from cloud_tasks.model import Architecture
from cloud_tasks.plugin import CheckContext, ImageLookup, ImageMaker, Queue, QueueContext
from cloud_tasks.testing import eventually
from cloud_tasks_gcp.doctor import check_compute
from cloud_tasks_gcp.permissions import COMPUTE, CONTROLLER_QUEUE, WORKER
from cloud_tasks_gcp.queue.factory import open_queue
from cloud_tasks_gcp.settings import GcpSettings

PUBSUB = {
    "CreateTopic": {"pubsub.topics.create"},
    "DeleteTopic": {"pubsub.topics.delete"},
    "Publish": {"pubsub.topics.publish"},
    "CreateSubscription": {"pubsub.subscriptions.create", "pubsub.topics.attachSubscription"},
    "GetSubscription": {"pubsub.subscriptions.get"},
    "DeleteSubscription": {"pubsub.subscriptions.delete"},
    "Pull": {"pubsub.subscriptions.consume"},
    "Acknowledge": {"pubsub.subscriptions.consume"},
    "ModifyAckDeadline": {"pubsub.subscriptions.consume"},
    "Seek": {"pubsub.subscriptions.consume"},
}
"""Permissions by method ("Access control with IAM" in the Pub/Sub documentation)."""


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[GceFake]:
    with GceFake(tmp_path / "gce") as fake:
        fake.granted = frozenset(COMPUTE)
        yield fake


def test_permissions_for_instances_are_those_of_all_calls(fake: GceFake) -> None:
    with open_compute(fake, tags=("batch",), service_account="w@fake-project.iam.gserviceaccount.com") as compute:
        assert isinstance(compute, ImageLookup)
        assert isinstance(compute, ImageMaker)
        compute.regions()
        compute.images()
        compute.instance_types()
        compute.headroom(offer())
        compute.find_image("debian-12", Architecture.X86_64)
        names = [compute.launch(launch_request()).instance_id for _ in range(2)]
        fake.cloud.instances["us-central1-a", names[0]].body["disks"][0]["autoDelete"] = False
        assert len(compute.instances("job")) == 2
        eventually(lambda: "started" in compute.console_log(names[0]))
        compute.find_own_image("cloud-tasks-image")
        fake.cloud.own_images.failure = "Internal error."
        with pytest.raises(ProviderError, match="INTERNAL_ERROR"):
            compute.make_image(names[0], "cloud-tasks-image")
        compute.terminate(names[:1])
    with open_compute(fake) as another:
        another.terminate(names)
    assert remaining(fake) == ([], [])
    for subnetwork in (None, "inner"):
        settings = GcpSettings(
            project_id="fake-project",
            compute_endpoint=fake.url,
            subnetwork=subnetwork,
            resource_manager_endpoint="http://127.0.0.1:9",
        )
        assert "network" in [each.subject for each in check_compute(settings, CheckContext(region="us-central1"))]
    assert sorted(fake.used_permissions) == sorted(COMPUTE)


@pytest.mark.parametrize("withheld", ["compute.disks.setLabels", "compute.subnetworks.useExternalIp"])
def test_launch_without_a_permission_names_it(fake: GceFake, withheld: str) -> None:
    fake.granted = frozenset(COMPUTE) - {withheld}
    with open_compute(fake) as compute, pytest.raises(LaunchRefusedError, match=withheld) as refused:
        compute.launch(launch_request())
    assert "see: cloud-tasks doctor" in refused.value.hint


@pytest.fixture
def pubsub(emulator: str) -> Iterator[tuple[str, PubSubFaults]]:
    with failing_pubsub(emulator) as found:
        yield found


def queue_settings(address: str) -> GcpSettings:
    return GcpSettings(project_id="permissions", pubsub_endpoint=address)


CONTEXT = QueueContext(job_id="job", name="used", lease=timedelta(seconds=60))


def use(queue: Queue) -> None:
    """Do what the controller does with events, and a worker with tasks."""
    assert queue.exists()
    queue.send([b"one", b"two"])
    queue.send([b"later"], delay=timedelta(seconds=60))
    lease_ids = [each.lease_id for each in queue.receive(2, wait=timedelta(seconds=10))]
    queue.extend(lease_ids, lease=timedelta(seconds=60))
    queue.ack(lease_ids[:1])
    queue.release(lease_ids[1:])


def test_permissions_for_queues_are_those_of_all_calls(pubsub: tuple[str, PubSubFaults]) -> None:
    address, proxy = pubsub
    with open_queue(queue_settings(address), CONTEXT, min_poll=0.2) as queue:
        queue.create()
        proxy.methods.clear()
        use(queue)
        assert permissions(proxy) == set(WORKER)
        queue.create()
        queue.purge()
        queue.depth()
        queue.delete()
    others = {"monitoring.timeSeries.list", "pubsub.topics.list"}  # of the depth and the doctor
    assert permissions(proxy) | others == set(CONTROLLER_QUEUE)


def permissions(proxy: PubSubFaults) -> set[str]:
    return {permission for method in proxy.methods for permission in PUBSUB[method]}
