"""Service Bus broker fake in this process, behind the SDK methods that the plugin calls.

Input are the SDK's own messages and batches, encoded by its AMQP library; output are its received messages. Network,
link lifetimes and the service's own errors are not modelled.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.servicebus import ServiceBusMessage, ServiceBusMessageBatch, ServiceBusReceivedMessage
from azure.servicebus._pyamqp._encode import encode_payload
from azure.servicebus._pyamqp.message import Header
from azure.servicebus.exceptions import MessageLockLostError, MessagingEntityNotFoundError

__all__ = ["Broker", "BrokerAdministration", "BrokerClient"]


@attrs.define
class _Kept:
    """One message in a queue."""

    number: int
    message: ServiceBusMessage
    visible_at: datetime
    failed: int = 0
    """Failed deliveries."""
    token: str = ""
    locked_until: datetime | None = None


@attrs.define
class _Queue:
    options: dict[str, Any]
    messages: list[_Kept] = attrs.field(factory=list)
    dead: list[_Kept] = attrs.field(factory=list)


@attrs.frozen
class _Counts:
    active_message_count: int
    scheduled_message_count: int
    dead_letter_message_count: int


class Broker:
    """A Service Bus namespace.

    Args:
        batch_bytes: Size limit of a batch.
    """

    def __init__(self, *, batch_bytes: int = 262_144) -> None:
        self.batch_bytes = batch_bytes
        self.queues: dict[str, _Queue] = {}
        self.batches: list[int] = []
        """Number of messages in each batch sent."""
        self.lock = threading.Condition()
        self._ahead = timedelta(0)
        self._numbers = itertools.count(1)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def advance(self, duration: timedelta) -> None:
        with self.lock:
            self._ahead += duration
            self.lock.notify_all()

    def queue(self, name: str) -> _Queue:
        if name not in self.queues:
            raise MessagingEntityNotFoundError(message="queue not found")
        return self.queues[name]

    def put(self, name: str, messages: Sequence[ServiceBusMessage]) -> None:
        with self.lock:
            queue = self.queue(name)
            for message in messages:
                # The plugin computed the time by its own clock, so the broker's lead is added.
                when = message.scheduled_enqueue_time_utc
                queue.messages.append(_Kept(next(self._numbers), message, when + self._ahead if when else self.now()))
            self.lock.notify_all()

    def free(self, kept: _Kept) -> None:
        """Release an expired lock."""
        if kept.locked_until is not None and kept.locked_until <= self.now():
            kept.locked_until, kept.failed = None, kept.failed + 1


class BrokerAdministration:
    """Fake of `ServiceBusAdministrationClient`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def create_queue(self, queue_name: str, **options: Any) -> None:
        with self._broker.lock:
            if queue_name in self._broker.queues:
                raise ResourceExistsError("queue exists")
            self._broker.queues[queue_name] = _Queue(options)

    def delete_queue(self, queue_name: str) -> None:
        with self._broker.lock:
            if self._broker.queues.pop(queue_name, None) is None:
                raise ResourceNotFoundError("queue not found")

    def get_queue(self, queue_name: str) -> None:
        if queue_name not in self._broker.queues:
            raise ResourceNotFoundError("queue not found")

    def get_queue_runtime_properties(self, queue_name: str) -> _Counts:
        self.get_queue(queue_name)
        queue = self._broker.queues[queue_name]
        later = sum(each.visible_at > self._broker.now() for each in queue.messages)
        return _Counts(len(queue.messages) - later, later, len(queue.dead))

    def close(self) -> None:
        """Do nothing: no connection is open."""


class BrokerClient:
    """Fake of `ServiceBusClient`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def get_queue_sender(self, queue_name: str) -> BrokerSender:
        return BrokerSender(self._broker, queue_name)

    def get_queue_receiver(self, queue_name: str, *, sub_queue: Any = None) -> BrokerReceiver:
        return BrokerReceiver(self._broker, queue_name, dead=sub_queue is not None)

    def close(self) -> None:
        """Do nothing: no connection is open."""


class BrokerSender:
    """Fake of `ServiceBusSender`."""

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker = broker
        self._name = name

    def create_message_batch(self, max_size_in_bytes: int | None = None) -> ServiceBusMessageBatch:
        return ServiceBusMessageBatch(max_size_in_bytes or self._broker.batch_bytes)

    def send_messages(self, message: ServiceBusMessage | ServiceBusMessageBatch) -> None:
        messages = list(message._messages) if isinstance(message, ServiceBusMessageBatch) else [message]
        self._broker.batches.append(len(messages))
        self._broker.put(self._name, messages)

    def close(self) -> None:
        """Do nothing: no connection is open."""


class BrokerReceiver:
    """Fake of `ServiceBusReceiver`, with the locks by message."""

    def __init__(self, broker: Broker, name: str, *, dead: bool) -> None:
        self._broker = broker
        self._name = name
        self._dead = dead
        self._tokens = itertools.count(1)
        self._locked: dict[int, tuple[ServiceBusReceivedMessage, int, str]] = {}

    def receive_messages(
        self, max_message_count: int | None = 1, max_wait_time: float | None = None
    ) -> list[ServiceBusReceivedMessage]:
        with self._broker.lock:
            self._broker.queue(self._name)
            # A deleted queue ends the wait as well.
            self._broker.lock.wait_for(lambda: bool(self._ready()), max_wait_time)
            return [self._deliver(kept) for kept in self._ready()[:max_message_count]]

    def complete_message(self, message: ServiceBusReceivedMessage) -> None:
        with self._broker.lock:
            self._messages().remove(self._mine(message))

    def abandon_message(self, message: ServiceBusReceivedMessage) -> None:
        with self._broker.lock:
            kept = self._mine(message)
            kept.locked_until, kept.failed = None, kept.failed + 1
            self._broker.lock.notify_all()

    def renew_message_lock(self, message: ServiceBusReceivedMessage) -> datetime:
        with self._broker.lock:
            kept = self._mine(message)
            kept.locked_until = self._broker.now() + self._duration()
            return kept.locked_until

    def close(self) -> None:
        """Do nothing: no connection is open."""

    def _messages(self) -> list[_Kept]:
        queue = self._broker.queues.get(self._name)
        return [] if queue is None else queue.dead if self._dead else queue.messages

    def _duration(self) -> timedelta:
        duration: timedelta = self._broker.queue(self._name).options["lock_duration"]
        return duration

    def _ready(self) -> list[_Kept]:
        for kept in self._messages():
            self._broker.free(kept)
        return [k for k in self._messages() if k.locked_until is None and k.visible_at <= self._broker.now()]

    def _deliver(self, kept: _Kept) -> ServiceBusReceivedMessage:
        kept.token = f"{id(self)}-{next(self._tokens)}"
        kept.locked_until = self._broker.now() + self._duration()
        header = Header(delivery_count=kept.failed)
        # The SDK's encoding with the header that the service adds.
        outgoing = ServiceBusMessageBatch()
        outgoing.add_message(kept.message)
        encoded = bytearray()
        encode_payload(encoded, outgoing._messages[0]._message._replace(header=header))
        message = ServiceBusReceivedMessage.from_bytes(bytes(encoded))
        self._locked[id(message)] = (message, kept.number, kept.token)
        return message

    def _mine(self, message: ServiceBusReceivedMessage) -> _Kept:
        _, number, token = self._locked[id(message)]
        for kept in self._messages():
            self._broker.free(kept)
            if kept.number == number and kept.token == token and kept.locked_until is not None:
                return kept
        raise MessageLockLostError()
