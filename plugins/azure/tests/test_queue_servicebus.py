"""Service Bus: the SDK's own messages and batches against a broker of ours, and once against a real namespace."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import attrs
import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage, ServiceBusReceiver, ServiceBusSender
from azure.servicebus.exceptions import ServiceBusAuthorizationError, ServiceBusConnectionError
from azure.servicebus.management import ServiceBusAdministrationClient
from servicebus_broker import Broker, BrokerAdministration, BrokerClient, BrokerReceiver, BrokerSender

from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.plugin import Queue, QueueContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import QueueContract, QueueSubject
from cloud_tasks_azure.queue.servicebus_failures import calling
from cloud_tasks_azure.queue.servicebus_opening import open_service_bus, queue_on
from cloud_tasks_azure.settings import AzureSettings

LEASE = timedelta(seconds=60)
SETTINGS = AzureSettings(queue="servicebus")
LIVE = "CLOUD_TASKS_TEST_SERVICEBUS"


@contextmanager
def opened(broker: Broker, name: str = "job", lease: timedelta = LEASE) -> Iterator[Queue]:
    context = QueueContext(job_id="job", name=name, lease=lease)
    queue = queue_on(BrokerClient(broker), BrokerAdministration(broker), SETTINGS, context)
    try:
        yield queue
    finally:
        queue.close()


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def queue(broker: Broker) -> Iterator[Queue]:
    with opened(broker) as queue:
        queue.create()
        yield queue


@attrs.frozen(kw_only=True)
class Subject(QueueSubject):
    broker: Broker

    def open(self, name: str, *, lease: timedelta | None = None) -> AbstractContextManager[Queue]:
        return opened(self.broker, name, lease or self.lease)


class TestServiceBus(QueueContract):
    @pytest.fixture
    def subject(self, broker: Broker) -> QueueSubject:
        return Subject(
            broker=broker,
            backend=Registry(only=["azure"]).queue("azure"),
            settings=SETTINGS,
            lease=LEASE,
            advance=broker.advance,
        )

    @pytest.mark.xfail(reason="a lock lasts as long as its queue was made with: a renewal takes no other duration")
    def test_extend_prolongs_a_lease(
        self, queue: Queue, consumers: Callable[[], Queue], subject: QueueSubject, one: Callable[[], Any]
    ) -> None:
        super().test_extend_prolongs_a_lease(queue, consumers, subject, one)


@pytest.mark.parametrize(
    ("stands", "real"),
    [
        (BrokerClient, ServiceBusClient),
        (BrokerSender, ServiceBusSender),
        (BrokerReceiver, ServiceBusReceiver),
        (BrokerAdministration, ServiceBusAdministrationClient),
    ],
)
def test_the_broker_takes_nothing_that_the_sdk_does_not_take(stands: type, real: type) -> None:
    for name, method in inspect.getmembers(stands, inspect.isfunction):
        if name.startswith("_"):
            continue
        known = inspect.signature(getattr(real, name)).parameters
        assert {parameter for parameter in inspect.signature(method).parameters if parameter != "options"} <= set(known)


def test_a_queue_is_made_with_options_that_the_sdk_knows(queue: Queue, broker: Broker) -> None:
    (made,) = broker.queues.values()
    assert set(made.made_with) <= set(inspect.signature(ServiceBusAdministrationClient.create_queue).parameters)
    assert made.made_with["requires_session"] is False
    assert made.made_with["lock_duration"] == LEASE
    assert made.made_with["max_delivery_count"] == 1000


@pytest.mark.parametrize(("lease", "lock"), [(timedelta(seconds=1), 5), (timedelta(hours=1), 300)])
def test_a_lock_lasts_as_long_as_the_service_allows(broker: Broker, lease: timedelta, lock: int) -> None:
    with opened(broker, lease=lease) as queue:
        queue.create()
    (made,) = broker.queues.values()
    assert made.made_with["lock_duration"] == timedelta(seconds=lock)


def test_batches_are_as_large_as_the_namespace_takes(queue: Queue, broker: Broker) -> None:
    broker.batch_bytes = 10_000
    assert list(queue.send([b"x" * 3000] * 7)) == []
    assert broker.batches == [3, 3, 1]


def test_what_fits_into_no_batch_fails_alone_and_for_good(queue: Queue, broker: Broker) -> None:
    broker.batch_bytes = 10_000
    failures = queue.send([b"small", b"x" * 10_000, b"small"])
    assert [(each.index, each.transient) for each in failures] == [(1, False)]
    assert "10000 bytes" in failures[0].reason
    assert broker.batches == [1, 1]


def test_a_message_released_with_a_delay_is_delivered_for_the_second_time(queue: Queue, broker: Broker) -> None:
    queue.send([b"task"])
    (first,) = queue.receive(1, wait=timedelta(seconds=5))
    assert list(queue.release([first.lease_id], delay=timedelta(seconds=300))) == []
    assert queue.depth().in_flight == 1
    broker.advance(timedelta(seconds=301))
    (second,) = queue.receive(1, wait=timedelta(seconds=5))
    assert (first.delivery_count, second.delivery_count, second.body) == (1, 2, b"task")


def test_a_lease_that_is_over_is_not_released_with_a_delay(queue: Queue, broker: Broker) -> None:
    queue.send([b"task"])
    (first,) = queue.receive(1, wait=timedelta(seconds=5))
    broker.advance(LEASE * 2)
    assert list(queue.release([first.lease_id], delay=timedelta(seconds=300))) == [first.lease_id]
    assert [len(each.messages) for each in broker.queues.values()] == [1]


def test_a_dead_letter_comes_back_with_its_deliveries_counted(queue: Queue, broker: Broker) -> None:
    queue.send([b"task"])
    (kept,) = (each for each in broker.queues.values())
    kept.messages[0].failed = 1000
    kept.dead.append(kept.messages.pop())
    assert queue.depth().visible == 1
    (found,) = queue.receive(1, wait=timedelta(0))
    assert (found.body, found.delivery_count) == (b"task", 1001)
    assert kept.dead == []


class _Refusing:
    """A sender whose calls fail."""

    def __init__(self, sender: BrokerSender, error: Exception) -> None:
        self._sender = sender
        self._error = error

    def create_message_batch(self) -> Any:
        return self._sender.create_message_batch()

    def send_messages(self, message: ServiceBusMessage) -> None:
        raise self._error

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("error", "transient"), [(ServiceBusConnectionError(), True), (ServiceBusAuthorizationError(), False)]
)
def test_a_send_that_fails_as_a_whole_raises_what_it_means(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, error: Exception, transient: bool
) -> None:
    client = BrokerClient(broker)
    sender = client.get_queue_sender("cloud-tasks-job")
    monkeypatch.setattr(client, "get_queue_sender", lambda queue_name: _Refusing(sender, error))
    context = QueueContext(job_id="job", name="job", lease=LEASE)
    queue = queue_on(client, BrokerAdministration(broker), SETTINGS, context)
    with pytest.raises(ProviderError) as raised:
        queue.send([b"one", b"two"])
    assert raised.value.transient is transient
    queue.close()


def test_no_key_is_in_what_an_error_says() -> None:
    with pytest.raises(ProviderError) as raised, calling("connecting"):
        raise ValueError("Endpoint=sb://a;SharedAccessKey=abcdef== is not understood")
    assert "abcdef" not in str(raised.value)


def test_a_broken_connection_string_is_refused_and_not_shown() -> None:
    settings = AzureSettings(queue="servicebus", servicebus_connection_string="abcdef")
    context = QueueContext(job_id="job", name="job", lease=LEASE)
    with pytest.raises(InputError) as raised, open_service_bus(settings, context):
        pass
    assert "abcdef" not in str(raised.value)


def test_without_a_namespace_the_command_that_lists_them_is_told() -> None:
    context = QueueContext(job_id="job", name="job", lease=LEASE)
    with pytest.raises(ProviderError, match="az servicebus namespace list"), open_service_bus(SETTINGS, context):
        pass


@pytest.mark.network
@pytest.mark.skipif(LIVE not in os.environ, reason=f"set {LIVE} to the connection string of a Service Bus namespace")
def test_messages_go_through_a_real_namespace() -> None:
    settings = AzureSettings(queue="servicebus", servicebus_connection_string=os.environ[LIVE])
    context = QueueContext(job_id="live", name=f"live-{uuid4().hex[:8]}", lease=timedelta(seconds=30))
    with open_service_bus(settings, context) as queue:
        queue.create()
        try:
            assert list(queue.send([b"one", b"two"])) == []
            found = [each for _ in range(2) for each in queue.receive(1, wait=timedelta(seconds=30))]
            assert sorted(each.body for each in found) == [b"one", b"two"]
            assert [each.delivery_count for each in found] == [1, 1]
            leases = [each.lease_id for each in found]
            assert list(queue.extend(leases, lease=timedelta(seconds=30))) == []
            assert list(queue.release(leases[:1], delay=timedelta(seconds=3))) == []
            assert list(queue.ack(leases[1:])) == []
            (again,) = queue.receive(1, wait=timedelta(seconds=30))
            assert again.delivery_count == 2
        finally:
            queue.delete()
