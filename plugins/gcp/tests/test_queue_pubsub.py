"""`PubSubQueue` over Google's emulator; the general contract is in test_queue_conformance.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from typing import Any
from uuid import uuid4

import attrs
import grpc
import pytest
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from pubsub_faults import PubSubFaults, failing_pubsub
from structlog.testing import capture_logs

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import Delivery, Queue, QueueContext
from cloud_tasks_gcp.queue.factory import open_queue
from cloud_tasks_gcp.settings import GcpSettings

LEASE = timedelta(seconds=60)
TIMEOUT = timedelta(seconds=20)
PROJECT = "project"


@attrs.frozen
class Cloud:
    """The emulator, its fault proxy and direct clients."""

    address: str
    faults: PubSubFaults
    publisher: Any
    subscriber: Any

    def subscription(self, name: str) -> Any:
        return self.subscriber.get_subscription(subscription=f"projects/{PROJECT}/subscriptions/cloud-tasks-{name}")


@pytest.fixture(scope="module")
def cloud(emulator: str) -> Iterator[Cloud]:
    with ExitStack() as stack:
        channel = stack.enter_context(grpc.insecure_channel(emulator))
        address, faults = stack.enter_context(failing_pubsub(emulator))
        yield Cloud(
            address,
            faults,
            PublisherClient(transport=PublisherGrpcTransport(channel=channel)),
            SubscriberClient(transport=SubscriberGrpcTransport(channel=channel)),
        )


@pytest.fixture
def name() -> str:
    return f"queue-{uuid4().hex[:8]}"


Open = Callable[..., AbstractContextManager[Queue]]


@pytest.fixture
def open_named(cloud: Cloud, name: str) -> Open:
    def opened(
        *, exactly_once: bool = False, for_events: bool = False, lease: timedelta = LEASE, **settings: Any
    ) -> AbstractContextManager[Queue]:
        context = QueueContext(
            job_id="My Job", name=name, lease=lease, exactly_once=exactly_once, for_events=for_events
        )
        chosen = GcpSettings(project_id=PROJECT, pubsub_endpoint=cloud.address, **settings)
        return open_queue(chosen, context, min_poll=0.2)

    return opened


@pytest.fixture
def queue(open_named: Open) -> Iterator[Queue]:
    with open_named() as queue:
        queue.create()
        yield queue
        queue.delete()


def receive(queue: Queue, count: int) -> list[Delivery]:
    received: list[Delivery] = []
    while len(received) < count:
        some = queue.receive(count - len(received), wait=TIMEOUT)
        assert some, "no message received"
        received += some
    return received


def test_create_logs_location_and_credentials_of_task_queue(open_named: Open, cloud: Cloud, name: str) -> None:
    with capture_logs() as logs, open_named() as tasks, open_named(for_events=True) as events:
        tasks.create()
        events.create()
        assert tasks.exists()
        tasks.delete()
    assert [each["event"] for each in logs] == [
        f'Initializing GCP Pub/Sub queue "{name}" with project ID "{PROJECT}"',
        f"Using no credentials (emulator at {cloud.address})",
    ]


def test_queue_batches_thousands_of_messages_into_few_calls(queue: Queue, cloud: Cloud) -> None:
    before = cloud.faults.calls
    assert list(queue.send([b"x"] * 3000)) == []
    assert cloud.faults.calls - before == 3
    leases = [delivery.lease_id for delivery in receive(queue, 3000)]
    before = cloud.faults.calls
    assert list(queue.extend(leases, lease=LEASE)) == []
    assert list(queue.ack(leases)) == []
    assert cloud.faults.calls - before <= 4


@pytest.mark.parametrize(("for_events", "calls"), [(False, 2), (True, 1)])
def test_receive_sets_lease_with_one_call_for_tasks_and_none_for_events(
    open_named: Open, cloud: Cloud, for_events: bool, calls: int
) -> None:
    with open_named(for_events=for_events, lease=timedelta(seconds=15 if for_events else 60)) as queue:
        queue.create()
        queue.send([b"x"] * 50)
        before = cloud.faults.calls
        assert len(queue.receive(50, wait=TIMEOUT)) == 50
        assert cloud.faults.calls - before == calls
        queue.delete()


def test_receive_gets_messages_of_terminated_receiver(queue: Queue, cloud: Cloud, name: str) -> None:
    queue.send([b"task"])
    # Like an instance that was terminated before it set its lease.
    cloud.subscriber.pull(subscription=f"projects/{PROJECT}/subscriptions/cloud-tasks-{name}", max_messages=1)
    assert receive(queue, 1)[0].body == b"task"


def test_create_applies_settings(open_named: Open, cloud: Cloud, name: str) -> None:
    with open_named(retention_days=2) as queue:
        queue.create()
        made = cloud.subscription(name)
        assert made.ack_deadline_seconds == 10
        assert made.message_retention_duration == timedelta(days=2)
        assert dict(made.labels) == {"cloud-tasks-job": "my-job"}
        queue.delete()


@pytest.mark.parametrize(("for_events", "wanted"), [(False, True), (True, False)])
def test_create_enables_exactly_once_for_tasks_only(
    open_named: Open, cloud: Cloud, name: str, for_events: bool, wanted: bool
) -> None:
    with open_named(exactly_once=True, for_events=for_events) as queue:
        queue.create()
        assert cloud.subscription(name).enable_exactly_once_delivery is wanted
        queue.delete()


def test_create_recreates_subscription_without_topic(queue: Queue, cloud: Cloud, name: str) -> None:
    queue.send([b"old"])
    cloud.publisher.delete_topic(topic=f"projects/{PROJECT}/topics/cloud-tasks-{name}")
    assert not queue.exists()
    with pytest.raises(NotFoundError):
        queue.send([b"lost"])
    queue.create()
    assert queue.exists()
    queue.send([b"new"])
    assert receive(queue, 1)[0].body == b"new"


def test_create_waits_for_the_topic_and_later_calls_report_what_is_not_found_yet(
    open_named: Open, cloud: Cloud
) -> None:
    cloud.faults.unseen.update(CreateSubscription=2, Publish=1, Pull=1)
    with open_named() as queue:
        queue.create()
        with pytest.raises(NotFoundError):
            queue.send([b"task"])
        queue.send([b"task"])
        with pytest.raises(NotFoundError):
            queue.receive(1, wait=timedelta(0))
        assert receive(queue, 1)[0].body == b"task"
        queue.delete()


def test_send_delivers_empty_body(queue: Queue) -> None:
    assert list(queue.send([b"", b"x"])) == []
    assert sorted(delivery.body for delivery in receive(queue, 2)) == [b"", b"x"]


def test_ack_by_other_consumer_is_lost(queue: Queue, open_named: Open) -> None:
    queue.send([b"task"])
    (delivery,) = receive(queue, 1)
    with open_named() as other:
        assert list(other.ack([delivery.lease_id])) == [delivery.lease_id]
    assert list(queue.ack([delivery.lease_id])) == []


def test_receive_gets_messages_that_other_consumer_gave_back(queue: Queue, open_named: Open) -> None:
    with open_named() as impatient:
        assert list(impatient.receive(10, wait=timedelta(0))) == []
        queue.send([b"%d" % number for number in range(10)])
        assert {delivery.body for delivery in receive(queue, 10)} == {b"%d" % number for number in range(10)}


def test_send_isolates_refused_message(queue: Queue, cloud: Cloud) -> None:
    # The emulator refuses no message that `send` lets through, so the proxy refuses one.
    cloud.faults.refuse = b"poison"
    try:
        failures = queue.send([b"a", b"b", b"poison", b"c"])
    finally:
        cloud.faults.refuse = None
    assert [(failure.index, failure.transient) for failure in failures] == [(2, False)]
    assert sorted(delivery.body for delivery in receive(queue, 3)) == [b"a", b"b", b"c"]


def test_queue_retries_transient_failures(queue: Queue, cloud: Cloud) -> None:
    cloud.faults.share = 0.3
    try:
        for number in range(20):
            assert list(queue.send([b"%d" % number])) == []
    finally:
        cloud.faults.share = 0.0
    bodies: set[bytes] = set()
    while len(bodies) < 20:
        deliveries = receive(queue, 1)
        bodies |= {delivery.body for delivery in deliveries}
        queue.ack([delivery.lease_id for delivery in deliveries])


def test_depth_without_monitoring_is_unknown(queue: Queue) -> None:
    depth = queue.depth()
    assert (depth.visible, depth.in_flight, depth.exact) == (None, None, False)


def test_receive_from_unreachable_cloud_raises_transient_error(name: str) -> None:
    settings = GcpSettings(project_id=PROJECT, pubsub_endpoint="127.0.0.1:1")
    context = QueueContext(job_id="job", name=name, lease=LEASE)
    with open_queue(settings, context, min_poll=3.0) as queue, pytest.raises(ProviderError) as caught:
        queue.receive(1, wait=timedelta(0))
    assert caught.value.transient
