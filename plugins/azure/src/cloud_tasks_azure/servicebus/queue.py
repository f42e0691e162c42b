"""The Service Bus queue backend: no sessions, renewed locks, scheduled copies for delayed releases.

Tests run the SDK's own objects against a broker in process, since Service Bus has no emulator for them; one test,
marked ``live``, needs a namespace. Not verified against Service Bus itself: whether the delivery count starts at zero
on the wire, the price of `exists`, and the lifetime of links.

Invariants, each with a test:

1. Messages are sent in batches of the namespace's size limit; a message over it fails alone and permanently.
2. A message released with a delay is sent as a scheduled copy before the original is completed; its delivery count
   continues.
3. Messages that Service Bus dead-lettered are sent again with their delivery count: the number of attempts of a task is
   decided by the runtime.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import attrs
from azure.servicebus import ServiceBusMessage
from azure.servicebus.exceptions import MessageSizeExceededError

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import Delivery, Depth, SendFailure
from cloud_tasks_azure.servicebus.administration import BusAdministration
from cloud_tasks_azure.servicebus.errors import LOST, translate_errors
from cloud_tasks_azure.servicebus.links import ReceiveLink, SendLink
from cloud_tasks_azure.servicebus.traits import SERVICE_BUS_TRAITS as TRAITS

__all__ = ["ServiceBusQueue"]

_DELIVERIES = "cloud-tasks-deliveries"
"""Property: number of deliveries before this copy of the message was sent."""
_NO_DELAY = timedelta(0)
_RECOVERY_INTERVAL = 60.0
"""Seconds between two reads of the dead-letter queue."""


@attrs.frozen(kw_only=True)
class _Held:
    """One delivery."""

    message: Any = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    deliveries: int


class ServiceBusQueue:
    """`Queue` on Service Bus. Thread-safe.

    Args:
        administration: Creates and deletes the queue.
        sending, receiving: Links of the queue.
        dead_letters: Link of the dead-letter queue.
        close: Called after the links are closed.
    """

    def __init__(
        self,
        administration: BusAdministration,
        *,
        sending: SendLink,
        receiving: ReceiveLink,
        dead_letters: ReceiveLink,
        close: Callable[[], None],
    ) -> None:
        self._administration = administration
        self._sending = sending
        self._receiving = receiving
        self._dead_letters = dead_letters
        self._close = close
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._recover_at = 0.0

    def create(self) -> None:
        self._administration.create()

    def delete(self) -> None:
        self._administration.delete()

    def purge(self) -> None:
        """Recreate the queue: Service Bus can clear neither locked nor scheduled messages."""
        self._administration.require()
        self._administration.delete()
        self._administration.create()

    def exists(self) -> bool:
        return self._administration.exists()

    def depth(self) -> Depth:
        """Return the depth; Service Bus counts locked messages as active, so ``in_flight`` is the scheduled ones."""
        found = self._administration.counts()
        return Depth(
            visible=(found.active_message_count or 0) + (found.dead_letter_message_count or 0),
            in_flight=found.scheduled_message_count or 0,
            exact=False,
            as_of=datetime.now(UTC),
        )

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = _NO_DELAY) -> Sequence[SendFailure]:
        limit = TRAITS.max_message_bytes
        large = [n for n, body in enumerate(bodies) if len(body) > limit]
        messages = {n: _message(body, delay=delay) for n, body in enumerate(bodies) if len(body) <= limit}
        failures = [
            SendFailure(index=n, reason=f"{len(bodies[n]):,} bytes exceed the limit of {limit:,}", transient=False)
            for n in large
        ]
        if messages:
            failures += self._sending.use(lambda sender: _send(sender, messages))
        return sorted(failures, key=lambda failure: failure.index)

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        count = min(max_messages, TRAITS.receive_batch)
        with translate_errors("receiving from the queue"):
            found = self._receiving.receive(count, wait=wait.total_seconds())
            if not found and self._recover():
                found = self._receiving.receive(count, wait=0)
        return [self._delivery(message) for message in found]

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        return self._settle(lease_ids, "acknowledging", lambda receiver, held: receiver.complete_message(held.message))

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = _NO_DELAY) -> Sequence[str]:
        if delay <= _NO_DELAY:
            return self._settle(lease_ids, "releasing", lambda receiver, held: receiver.abandon_message(held.message))

        def reschedule(receiver: Any, held: _Held) -> None:
            # Fails if the lock was lost, in which case no copy may be sent.
            receiver.renew_message_lock(held.message)
            copy = _message(held.body, delay=delay, deliveries=held.deliveries)
            self._sending.use(lambda sender: sender.send_messages(copy))
            receiver.complete_message(held.message)

        return self._settle(lease_ids, "releasing", reschedule)

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        """Renew the locks for the lock duration of the queue (`BusAdministration`)."""

        def renew(receiver: Any, held: _Held) -> None:
            receiver.renew_message_lock(held.message)

        return self._settle(lease_ids, "extending", renew, keep=True)

    def close(self) -> None:
        for link in (self._receiving, self._dead_letters, self._sending):
            link.close()
        self._close()

    def _delivery(self, message: Any) -> Delivery:
        body = b"".join(message.body)
        # The header counts failed deliveries: "Header" in the AMQP 1.0 specification.
        deliveries = _earlier_deliveries(message) + (message.delivery_count or 0) + 1
        lease_id = uuid4().hex
        with self._lock:
            self._held[lease_id] = _Held(message=message, body=body, deliveries=deliveries)
        return Delivery(lease_id=lease_id, body=body, delivery_count=deliveries)

    def _settle(
        self, lease_ids: Sequence[str], action: str, call: Callable[[Any, _Held], None], *, keep: bool = False
    ) -> list[str]:
        """Apply one call to each lease and return the lost ones. A failure does not affect other leases."""
        lost: list[str] = []
        failure: ProviderError | None = None
        for lease_id in dict.fromkeys(lease_ids):
            with self._lock:
                held = self._held.get(lease_id)
            if held is None:
                lost.append(lease_id)
                continue
            try:
                with translate_errors(f"{action} a message"):
                    self._receiving.use(lambda receiver, held=held: call(receiver, held))  # type: ignore[misc]
            except (*LOST, NotFoundError):
                lost.append(lease_id)
            except ProviderError as error:
                failure = error
                continue
            else:
                if keep:
                    continue
            with self._lock:
                self._held.pop(lease_id, None)
        if failure is not None:
            raise failure
        return lost

    def _recover(self) -> int:
        """Send dead-lettered messages again if the interval has passed; return their number."""
        with self._lock:
            if time.monotonic() < self._recover_at:
                return 0
            self._recover_at = time.monotonic() + _RECOVERY_INTERVAL
        recovered = 0
        for message in self._dead_letters.receive(TRAITS.receive_batch, wait=0):
            deliveries = _earlier_deliveries(message) + (message.delivery_count or 0)
            copy = _message(b"".join(message.body), deliveries=deliveries)
            self._sending.use(lambda sender, copy=copy: sender.send_messages(copy))  # type: ignore[misc]
            self._dead_letters.use(lambda receiver, message=message: receiver.complete_message(message))  # type: ignore[misc]
            recovered += 1
        return recovered


def _message(body: bytes, *, delay: timedelta = _NO_DELAY, deliveries: int = 0) -> ServiceBusMessage:
    when = datetime.now(UTC) + min(delay, TRAITS.delay) if delay > _NO_DELAY else None
    return ServiceBusMessage(
        body,
        scheduled_enqueue_time_utc=when,
        application_properties={_DELIVERIES: deliveries} if deliveries else None,
    )


def _earlier_deliveries(message: Any) -> int:
    found = message.application_properties or {}
    # The SDK returns the names of properties as bytes.
    return int(found.get(_DELIVERIES.encode(), found.get(_DELIVERIES, 0)))


def _send(sender: Any, messages: Mapping[int, ServiceBusMessage]) -> list[SendFailure]:
    """Send in the largest possible batches and return the failures by index. Raises if every message failed."""
    failures: list[SendFailure] = []
    error: ProviderError | None = None
    left = list(messages.items())
    while left:
        with translate_errors("sending to the queue"):
            batch = sender.create_message_batch()
        taken = 0
        for _, message in left:
            try:
                batch.add_message(message)
            except MessageSizeExceededError:
                break
            taken += 1
        if not taken:
            index, _ = left.pop(0)
            reason = f"exceeds the Service Bus namespace's limit of {batch.max_size_in_bytes:,} bytes"
            failures.append(SendFailure(index=index, reason=reason, transient=False))
            continue
        chosen, left = left[:taken], left[taken:]
        try:
            with translate_errors("sending to the queue"):
                sender.send_messages(batch)
        except ProviderError as send_error:
            error = send_error
            reason, transient = str(send_error), send_error.transient
            failures += [SendFailure(index=n, reason=reason, transient=transient) for n, _ in chosen]
    if error is not None and len(failures) == len(messages):
        raise error
    return failures
