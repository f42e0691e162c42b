"""A queue of Service Bus: no sessions, locks that are renewed, copies that are scheduled where a delay is asked for.

No emulator of Service Bus runs beside the tests: they let the SDK's own objects work against a broker of ours, and one
test, marked ``live``, needs a namespace. What was never checked against Service Bus itself: whether the delivery count
begins with zero on the wire, what `exists` costs, and how long links live.

Invariants, each with a test:

1. Messages go in batches of the size that the namespace allows; one that fits into none fails alone and for good.
2. A message released with a delay is put aside as a scheduled copy before the original is completed; its deliveries go
   on being counted.
3. What Service Bus put aside as a dead letter comes back, with its deliveries counted: how often a task is tried is for
   the runtime to decide.
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
from cloud_tasks_azure.queue.servicebus_administration import BusAdministration
from cloud_tasks_azure.queue.servicebus_failures import LOST, calling
from cloud_tasks_azure.queue.servicebus_links import ReceiveLink, SendLink
from cloud_tasks_azure.traits import QUEUE_TRAITS as TRAITS

__all__ = ["ServiceBusQueue"]

_EARLIER = "cloud-tasks-deliveries"
"""Property: how often the message was delivered before this copy of it was made."""
_AT_ONCE = timedelta(0)
_RECOVERY_PAUSE = 60.0
"""Seconds between two looks at the dead letters."""


@attrs.frozen(kw_only=True)
class _Held:
    """One delivery."""

    message: Any = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    deliveries: int


class ServiceBusQueue:
    """The `Queue` of one name. Thread-safe.

    Args:
        administration: Makes and removes the queue.
        sending, receiving: The queue's links.
        dead_letters: The link to what was put aside.
        close: Called in the end.
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
        """Makes the queue anew: Service Bus can neither clear locked nor scheduled messages."""
        self._administration.require()
        self._administration.delete()
        self._administration.create()

    def exists(self) -> bool:
        return self._administration.exists()

    def depth(self) -> Depth:
        """Service Bus counts locked messages among the active ones; `Depth.in_flight` are the scheduled."""
        found = self._administration.counts()
        return Depth(
            visible=(found.active_message_count or 0) + (found.dead_letter_message_count or 0),
            in_flight=found.scheduled_message_count or 0,
            exact=False,
            as_of=datetime.now(UTC),
        )

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = _AT_ONCE) -> Sequence[SendFailure]:
        limit = TRAITS.max_message_bytes
        large = [n for n, body in enumerate(bodies) if len(body) > limit]
        messages = {n: _message(body, delay=delay) for n, body in enumerate(bodies) if len(body) <= limit}
        failures = [
            SendFailure(index=n, reason=f"{len(bodies[n])} bytes, the limit is {limit}", transient=False) for n in large
        ]
        if messages:
            failures += self._sending.use(lambda sender: _send(sender, messages))
        return sorted(failures, key=lambda failure: failure.index)

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        count = min(max_messages, TRAITS.receive_batch)
        with calling("receiving from the queue"):
            found = self._receiving.receive(count, wait=wait.total_seconds())
            if not found and self._recover():
                found = self._receiving.receive(count, wait=0)
        return [self._delivery(message) for message in found]

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        return self._settle(lease_ids, "acknowledging", lambda receiver, held: receiver.complete_message(held.message))

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = _AT_ONCE) -> Sequence[str]:
        if delay <= _AT_ONCE:
            return self._settle(lease_ids, "releasing", lambda receiver, held: receiver.abandon_message(held.message))

        def put_off(receiver: Any, held: _Held) -> None:
            # Only who still has the lock may make a copy.
            receiver.renew_message_lock(held.message)
            copy = _message(held.body, delay=delay, deliveries=held.deliveries)
            self._sending.use(lambda sender: sender.send_messages(copy))
            receiver.complete_message(held.message)

        return self._settle(lease_ids, "releasing", put_off)

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        """A lock is renewed for as long as the queue was made with: `BusAdministration` says how long."""

        def renew(receiver: Any, held: _Held) -> None:
            receiver.renew_message_lock(held.message)

        return self._settle(lease_ids, "extending", renew, keep=True)

    def close(self) -> None:
        for link in (self._receiving, self._dead_letters, self._sending):
            link.close()
        self._close()

    def _delivery(self, message: Any) -> Delivery:
        body = b"".join(message.body)
        # The header counts the deliveries that failed: "Header" in the AMQP 1.0 specification.
        deliveries = _earlier(message) + (message.delivery_count or 0) + 1
        lease_id = uuid4().hex
        with self._lock:
            self._held[lease_id] = _Held(message=message, body=body, deliveries=deliveries)
        return Delivery(lease_id=lease_id, body=body, delivery_count=deliveries)

    def _settle(
        self, lease_ids: Sequence[str], doing: str, call: Callable[[Any, _Held], None], *, keep: bool = False
    ) -> list[str]:
        """Do one thing to each lease; returns those that are lost. Trouble with one does not spare the others."""
        lost: list[str] = []
        trouble: ProviderError | None = None
        for lease_id in dict.fromkeys(lease_ids):
            with self._lock:
                held = self._held.get(lease_id)
            if held is None:
                lost.append(lease_id)
                continue
            try:
                with calling(f"{doing} a message"):
                    self._receiving.use(lambda receiver, held=held: call(receiver, held))  # type: ignore[misc]
            except (*LOST, NotFoundError):
                lost.append(lease_id)
            except ProviderError as error:
                trouble = error
                continue
            else:
                if keep:
                    continue
            with self._lock:
                self._held.pop(lease_id, None)
        if trouble is not None:
            raise trouble
        return lost

    def _recover(self) -> int:
        """Put dead letters back into the queue, if it is time to look; how many."""
        with self._lock:
            if time.monotonic() < self._recover_at:
                return 0
            self._recover_at = time.monotonic() + _RECOVERY_PAUSE
        recovered = 0
        for message in self._dead_letters.receive(TRAITS.receive_batch, wait=0):
            deliveries = _earlier(message) + (message.delivery_count or 0)
            copy = _message(b"".join(message.body), deliveries=deliveries)
            self._sending.use(lambda sender, copy=copy: sender.send_messages(copy))  # type: ignore[misc]
            self._dead_letters.use(lambda receiver, message=message: receiver.complete_message(message))  # type: ignore[misc]
            recovered += 1
        return recovered


def _message(body: bytes, *, delay: timedelta = _AT_ONCE, deliveries: int = 0) -> ServiceBusMessage:
    when = datetime.now(UTC) + min(delay, TRAITS.delay) if delay > _AT_ONCE else None
    return ServiceBusMessage(
        body,
        scheduled_enqueue_time_utc=when,
        application_properties={_EARLIER: deliveries} if deliveries else None,
    )


def _earlier(message: Any) -> int:
    found = message.application_properties or {}
    # The SDK gives the names of properties as bytes.
    return int(found.get(_EARLIER.encode(), found.get(_EARLIER, 0)))


def _send(sender: Any, messages: Mapping[int, ServiceBusMessage]) -> list[SendFailure]:
    """Send in batches as large as they may be; returns what was not sent, by its place. Raises when nothing was."""
    failures: list[SendFailure] = []
    trouble: ProviderError | None = None
    left = list(messages.items())
    while left:
        with calling("sending to the queue"):
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
            reason = f"larger than the {batch.max_size_in_bytes} bytes that this Service Bus namespace takes"
            failures.append(SendFailure(index=index, reason=reason, transient=False))
            continue
        chosen, left = left[:taken], left[taken:]
        try:
            with calling("sending to the queue"):
                sender.send_messages(batch)
        except ProviderError as error:
            trouble = error
            failures += [SendFailure(index=n, reason=str(error), transient=error.transient) for n, _ in chosen]
    if trouble is not None and len(failures) == len(messages):
        raise trouble
    return failures
