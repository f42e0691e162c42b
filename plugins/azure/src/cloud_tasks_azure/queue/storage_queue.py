"""The Storage Queue backend.

Storage Queue has no batch calls and no long polls. A wait consists of polls with growing pauses: from 50 ms to
``azure.queue_poll_seconds``. Each poll is a billed operation ("Azure Queue Storage pricing"): a consumer that waits for
an hour with pauses of 2 s makes 1,800 polls. 64 consumers make 32 calls per second, of the 2,000 that a queue accepts
("Scalability and performance targets for Queue Storage").

A lease is identified by a pop receipt, which changes with each renewal ("Update Message" in the reference of the Queue
service). If the response of a renewal is lost, so is the new receipt: the lease counts as lost, and the message is
redelivered when the renewed lease ends.

Invariants, each with a test:

1. Messages do not expire: the service's default of seven days is disabled.
2. The pauses of a consumer without messages grow, also over several calls; a message resets them.
3. A receipt is used by one call at a time: an acknowledgement never uses a receipt that a renewal is replacing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import Depth, SendFailure
from cloud_tasks.plugin.kit import BatchedQueue, Held, Received, Refused, RequestLimits
from cloud_tasks_azure.queue.access import Access
from cloud_tasks_azure.queue.bodies import decode, encode
from cloud_tasks_azure.queue.poll_backoff import PollBackoff
from cloud_tasks_azure.queue.queue_errors import code_of, is_lost, translate_errors
from cloud_tasks_azure.traits import QUEUE_TRAITS as TRAITS

__all__ = ["StorageQueue"]

_MAX_PER_CALL = 32
"""Messages per call; "Get Messages" in the reference of the Queue service."""
_NO_EXPIRY = -1
"""Time to live: "Put Message" in the reference of the Queue service."""
_MAX_CLEAR_CALLS = 20


@attrs.define
class Receipt:
    """What identifies a lease in Azure."""

    queue: str
    """The queue's name in Azure."""
    message_id: str
    receipt: str = attrs.field(repr=False)
    lock: threading.Lock = attrs.field(factory=threading.Lock, repr=False)
    """Held while the receipt is in use."""


class StorageQueue(BatchedQueue[Receipt]):
    """`Queue` on Azure Storage Queue. Thread-safe.

    Args:
        lease: First lease of a received message.
        threads: Maximum number of parallel calls.
        max_pause: Maximum seconds between two polls of an empty queue.
    """

    def __init__(self, access: Access, *, lease: timedelta, threads: int, max_pause: float) -> None:
        limits = RequestLimits(send=1, receive=_MAX_PER_CALL, settle=1)
        super().__init__(TRAITS, limits, lease=lease, threads=threads, name="cloud-tasks-azure")
        self._access = access
        self._pauses = PollBackoff(max_pause)

    def create(self) -> None:
        self._access.generations.create()

    def delete(self) -> None:
        self._access.generations.delete()

    def purge(self) -> None:
        """Delete all messages, delayed and leased ones included."""
        for _ in range(_MAX_CLEAR_CALLS):
            try:
                self._access.call("clearing the queue", lambda physical: self._access.client(physical).clear_messages())
                break
            except NotFoundError:
                raise
            except ProviderError as error:
                # Many messages take several calls: "Clear Messages" in the reference of the Queue service.
                if code_of(error.__cause__) != "OperationTimedOut":
                    raise
        else:
            raise ProviderError(f"clearing the queue: not finished after {_MAX_CLEAR_CALLS} calls", transient=True)

    def exists(self) -> bool:
        return self._access.generations.exists()

    def depth(self) -> Depth:
        """Return the depth; Azure reports one total, and the number of visible messages only below 32."""

        def read(physical: str) -> Depth:
            client = self._access.client(physical)
            visible = len(client.peek_messages(max_messages=_MAX_PER_CALL))
            total = client.get_queue_properties().approximate_message_count or 0
            few = visible < _MAX_PER_CALL
            return Depth(
                visible=visible if few else total,
                in_flight=max(0, total - visible) if few else None,
                exact=False,
                as_of=datetime.now(UTC),
            )

        return self._access.call("reading the depth of the queue", read)

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        if bodies:
            # A missing queue is detected by one call, not by one per message.
            self._access.generations.current()
        return super().send(bodies, delay=delay)

    def close(self) -> None:
        super().close()
        self._access.service.close()

    # Requests

    def _encode(self, body: bytes) -> str:
        return encode(body)

    def _send(self, messages: Sequence[str], delay: timedelta) -> Mapping[int, Refused]:
        (text,) = messages
        seconds = round(delay.total_seconds()) or None

        def put(physical: str) -> None:
            self._access.client(physical).send_message(text, visibility_timeout=seconds, time_to_live=_NO_EXPIRY)

        self._access.call("sending to the queue", put)
        return {}

    def _receive(self, count: int, wait: timedelta) -> Sequence[Received[Receipt]]:
        seconds = round(self._lease.total_seconds())

        def receive(physical: str) -> list[Received[Receipt]]:
            pages = self._access.client(physical).receive_messages(messages_per_page=count, visibility_timeout=seconds)
            # The SDK's iterator would continue until the queue is empty.
            return [_received(physical, message) for message in next(pages.by_page(), ())]

        found = self._access.call("receiving from the queue", receive)
        if found:
            self._pauses.reset()
        return found

    def _pause(self, left: float) -> None:
        self._closed.wait(min(left, self._pauses.next_pause()))

    def _ack(self, held: Sequence[Held[Receipt]]) -> Mapping[int, Refused]:
        def delete(client: Any, receipt: Receipt) -> None:
            client.delete_message(receipt.message_id, receipt.receipt)

        return self._settle_one("acknowledging", held, delete)

    def _change(self, held: Sequence[Held[Receipt]], leases: Sequence[timedelta]) -> Mapping[int, Refused]:
        (lease,) = leases

        def update(client: Any, receipt: Receipt) -> None:
            seconds = round(lease.total_seconds())
            response = client.update_message(receipt.message_id, receipt.receipt, visibility_timeout=seconds)
            receipt.receipt = response.pop_receipt

        return self._settle_one("extending", held, update)

    def _settle_one(
        self, action: str, held: Sequence[Held[Receipt]], call: Callable[[Any, Receipt], None]
    ) -> Mapping[int, Refused]:
        (one,) = held
        try:
            with one.payload.lock, translate_errors(f"{action} a message"):
                call(self._access.client(one.payload.queue), one.payload)
        except ProviderError as error:
            if not is_lost(error):
                raise
            return {0: Refused(error.message, transient=False)}
        return {}


def _received(physical: str, message: Any) -> Received[Receipt]:
    return Received(
        body=decode(str(message.content)),
        payload=Receipt(physical, message.id, message.pop_receipt),
        key=f"{physical}/{message.id}",
        delivery_count=message.dequeue_count,
    )
