"""What is special about the queue on Pub/Sub, over Google's emulator."""

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
    """Pub/Sub, and what a test does behind the queue's back."""

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
def open_it(cloud: Cloud, name: str) -> Open:
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
def queue(open_it: Open) -> Iterator[Queue]:
    with open_it() as queue:
        queue.create()
        yield queue
        queue.delete()


def receive(queue: Queue, count: int) -> list[Delivery]:
    received: list[Delivery] = []
    while len(received) < count:
        some = queue.receive(count - len(received), wait=TIMEOUT)
        assert some, "no message came"
        received += some
    return received


def test_making_the_queue_of_tasks_tells_where_and_as_whom(open_it: Open, cloud: Cloud, name: str) -> None:
    with capture_logs() as told, open_it() as tasks, open_it(for_events=True) as events:
        tasks.create()
        events.create()
        assert tasks.exists()
        tasks.delete()
    assert [each["event"] for each in told] == [
        f'Initializing GCP Pub/Sub queue "{name}" with project ID "{PROJECT}"',
        f"Using no credentials, for {cloud.address}",
    ]


def test_thousands_of_messages_take_a_few_calls(queue: Queue, cloud: Cloud) -> None:
    before = cloud.faults.calls
    assert list(queue.send([b"x"] * 3000)) == []
    assert cloud.faults.calls - before == 3
    leases = [delivery.lease_id for delivery in receive(queue, 3000)]
    before = cloud.faults.calls
    assert list(queue.extend(leases, lease=LEASE)) == []
    assert list(queue.ack(leases)) == []
    assert cloud.faults.calls - before <= 4


@pytest.mark.parametrize(("for_events", "calls"), [(False, 2), (True, 1)])
def test_the_lease_of_many_tasks_takes_one_call_and_that_of_events_none(
    open_it: Open, cloud: Cloud, for_events: bool, calls: int
) -> None:
    with open_it(for_events=for_events, lease=timedelta(seconds=15 if for_events else 60)) as queue:
        queue.create()
        queue.send([b"x"] * 50)
        before = cloud.faults.calls
        assert len(queue.receive(50, wait=TIMEOUT)) == 50
        assert cloud.faults.calls - before == calls
        queue.delete()


def test_messages_whose_receiver_is_gone_are_back_in_seconds(queue: Queue, cloud: Cloud, name: str) -> None:
    queue.send([b"task"])
    # As a machine that was taken away before it took its lease.
    cloud.subscriber.pull(subscription=f"projects/{PROJECT}/subscriptions/cloud-tasks-{name}", max_messages=1)
    assert receive(queue, 1)[0].body == b"task"


def test_a_queue_is_made_with_what_the_settings_say(open_it: Open, cloud: Cloud, name: str) -> None:
    cloud.publisher.create_topic(name=f"projects/{PROJECT}/topics/dead-{name}")
    with open_it(retention_days=2, dead_letter_topic=f"dead-{name}", max_delivery_attempts=20) as queue:
        queue.create()
        made = cloud.subscription(name)
        assert made.ack_deadline_seconds == 10
        assert made.message_retention_duration == timedelta(days=2)
        assert made.dead_letter_policy.dead_letter_topic == f"projects/{PROJECT}/topics/dead-{name}"
        assert made.dead_letter_policy.max_delivery_attempts == 20
        assert dict(made.labels) == {"cloud-tasks-job": "my-job"}
        queue.delete()


@pytest.mark.parametrize(("for_events", "wanted"), [(False, True), (True, False)])
def test_exactly_once_is_asked_for_tasks_and_not_for_events(
    open_it: Open, cloud: Cloud, name: str, for_events: bool, wanted: bool
) -> None:
    with open_it(exactly_once=True, for_events=for_events) as queue:
        queue.create()
        assert cloud.subscription(name).enable_exactly_once_delivery is wanted
        queue.delete()


def test_deliveries_are_counted_where_there_is_a_dead_letter_topic(open_it: Open, cloud: Cloud, name: str) -> None:
    cloud.publisher.create_topic(name=f"projects/{PROJECT}/topics/dead-{name}")
    with open_it(dead_letter_topic=f"dead-{name}") as queue:
        queue.create()
        queue.send([b"task"])
        counts = []
        for _ in range(2):
            (delivery,) = receive(queue, 1)
            counts.append(delivery.delivery_count)
            queue.release([delivery.lease_id])
        assert counts == [1, 2]
        queue.delete()


def test_without_one_they_are_unknown(queue: Queue) -> None:
    queue.send([b"task"])
    assert receive(queue, 1)[0].delivery_count is None


def test_a_subscription_that_outlived_its_topic_is_no_queue_and_is_made_anew(
    queue: Queue, cloud: Cloud, name: str
) -> None:
    queue.send([b"old"])
    cloud.publisher.delete_topic(topic=f"projects/{PROJECT}/topics/cloud-tasks-{name}")
    assert not queue.exists()
    with pytest.raises(NotFoundError):
        queue.send([b"lost"])
    queue.create()
    assert queue.exists()
    queue.send([b"new"])
    assert receive(queue, 1)[0].body == b"new"


def test_a_message_without_a_body_arrives(queue: Queue) -> None:
    assert list(queue.send([b"", b"x"])) == []
    assert sorted(delivery.body for delivery in receive(queue, 2)) == [b"", b"x"]


def test_a_lease_is_lost_to_a_consumer_that_did_not_receive_it(queue: Queue, open_it: Open) -> None:
    queue.send([b"task"])
    (delivery,) = receive(queue, 1)
    with open_it() as other:
        assert list(other.ack([delivery.lease_id])) == [delivery.lease_id]
    assert list(queue.ack([delivery.lease_id])) == []


def test_what_comes_to_a_consumer_that_stopped_waiting_goes_to_another(queue: Queue, open_it: Open) -> None:
    with open_it() as impatient:
        assert list(impatient.receive(10, wait=timedelta(0))) == []
        queue.send([b"%d" % number for number in range(10)])
        assert {delivery.body for delivery in receive(queue, 10)} == {b"%d" % number for number in range(10)}


def test_a_message_that_pub_sub_refuses_takes_no_other_with_it(queue: Queue, cloud: Cloud) -> None:
    # Nothing that `send` lets through is refused by the emulator: a refusal of one body is put in between.
    cloud.faults.refuse = b"poison"
    try:
        failures = queue.send([b"a", b"b", b"poison", b"c"])
    finally:
        cloud.faults.refuse = None
    assert [(failure.index, failure.transient) for failure in failures] == [(2, False)]
    assert sorted(delivery.body for delivery in receive(queue, 3)) == [b"a", b"b", b"c"]


def test_calls_that_fail_now_and_then_are_made_again(queue: Queue, cloud: Cloud) -> None:
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


def test_the_depth_of_a_queue_that_monitoring_does_not_know_is_unknown(queue: Queue) -> None:
    depth = queue.depth()
    assert (depth.visible, depth.in_flight, depth.exact) == (None, None, False)


def test_a_cloud_that_cannot_be_reached_is_passing_trouble(name: str) -> None:
    settings = GcpSettings(project_id=PROJECT, pubsub_endpoint="127.0.0.1:1")
    context = QueueContext(job_id="job", name=name, lease=LEASE)
    with open_queue(settings, context, min_poll=3.0) as queue, pytest.raises(ProviderError) as caught:
        queue.receive(1, wait=timedelta(0))
    assert caught.value.transient
