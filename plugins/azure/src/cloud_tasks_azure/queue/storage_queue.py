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
4. Any bytes are preserved: a body is sent as base64, since a message is XML-safe text.
5. A queue of others is neither cleared nor deleted: the metadata of a queue says whose it is.
"""

from __future__ import annotations

import base64
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import Depth
from cloud_tasks.plugin.kit import BatchedQueue, Held, Received, Refused, RequestLimits
from cloud_tasks_azure.queue.names import NAME_KEY
from cloud_tasks_azure.queue.queue_errors import BEING_DELETED, code_of, is_lost, translate_errors
from cloud_tasks_azure.traits import QUEUE_TRAITS as TRAITS

__all__ = ["INLINE_BYTES", "PollBackoff", "StorageQueue", "decode", "encode"]

INLINE_BYTES = 47 * 1024
"""Largest body of a message itself: 64,172 characters, of 64 KiB that "Put Message" allows."""
_MAX_PER_CALL = 32
"""Messages per call; "Get Messages" in the reference of the Queue service."""
_NO_EXPIRY = -1
"""Time to live: "Put Message" in the reference of the Queue service."""
_MAX_CLEAR_CALLS = 20
_FIRST_PAUSE = 0.05


@attrs.define
class Receipt:
    """What identifies a lease in Azure."""

    message_id: str
    receipt: str = attrs.field(repr=False)
    """Empty after the message was deleted."""
    lock: threading.Lock = attrs.field(factory=threading.Lock, repr=False)
    """Held while the receipt is in use."""


class PollBackoff:
    """Pauses between polls of an empty queue, in seconds, which grow to a maximum. Thread-safe."""

    def __init__(self, maximum: float) -> None:
        self._maximum = maximum
        self._lock = threading.Lock()
        self._next = min(_FIRST_PAUSE, maximum)

    def next_pause(self) -> float:
        """Return the next pause; randomized, so that consumers do not poll in step."""
        with self._lock:
            pause, self._next = self._next, min(self._maximum, self._next * 2)
        return pause * random.uniform(0.8, 1.0)

    def reset(self) -> None:
        """Return to the first pause after a message arrived."""
        self._next = min(_FIRST_PAUSE, self._maximum)


class StorageQueue(BatchedQueue[Receipt]):
    """`Queue` on Azure Storage Queue. Thread-safe.

    Args:
        service: A `QueueServiceClient`, closed with this object.
        name: Name of the queue in Azure.
        metadata: Metadata of the queue.
        lease: First lease of a received message.
        threads: Maximum number of parallel calls.
        max_pause: Maximum seconds between two polls of an empty queue.
    """

    def __init__(
        self,
        service: Any,
        name: str,
        metadata: Mapping[str, str],
        *,
        lease: timedelta,
        threads: int,
        max_pause: float,
    ) -> None:
        limits = RequestLimits(send=1, receive=_MAX_PER_CALL, settle=1)
        super().__init__(TRAITS, limits, lease=lease, threads=threads, name="cloud-tasks-azure")
        self._service = service
        self._client = service.get_queue_client(name)
        self._metadata = metadata
        self._pauses = PollBackoff(max_pause)

    def create(self) -> None:
        """Create the queue unless it exists."""
        try:
            with translate_errors(f"creating the queue {self._client.queue_name}"):
                self._client.create_queue(metadata=dict(self._metadata))
        except ProviderError as error:
            # With other metadata; a repeated creation with the same metadata succeeds.
            if code_of(error.__cause__) != "QueueAlreadyExists":
                raise
            self._require()

    def delete(self) -> None:
        """Delete the queue if it exists."""
        try:
            self._require()
            with translate_errors("deleting the queue"):
                self._client.delete_queue()
        except ProviderError as error:
            if not isinstance(error, NotFoundError) and code_of(error.__cause__) != BEING_DELETED:
                raise

    def purge(self) -> None:
        """Delete all messages, delayed and leased ones included."""
        self._require()
        for _ in range(_MAX_CLEAR_CALLS):
            try:
                with translate_errors("clearing the queue"):
                    self._client.clear_messages()
                return
            except ProviderError as error:
                # Many messages take several calls: "Clear Messages" in the reference of the Queue service.
                if code_of(error.__cause__) != "OperationTimedOut":
                    raise
        raise ProviderError(f"clearing the queue: not finished after {_MAX_CLEAR_CALLS} calls", transient=True)

    def exists(self) -> bool:
        try:
            self._require()
        except NotFoundError:
            return False
        return True

    def _require(self) -> None:
        """Raise `NotFoundError` if there is no such queue, and `ProviderError` if it is one of others."""
        with translate_errors("looking up the queue"):
            found = self._client.get_queue_properties().metadata or {}
        if {name.lower(): text for name, text in found.items()}.get(NAME_KEY) != self._metadata[NAME_KEY]:
            name = self._client.queue_name
            raise ProviderError(f"the queue {name} was not created by cloud-tasks", hint="set azure.queue_prefix")

    def depth(self) -> Depth:
        """Return the depth; Azure reports one total, and the number of visible messages only below 32."""
        with translate_errors("reading the depth of the queue"):
            visible = len(self._client.peek_messages(max_messages=_MAX_PER_CALL))
            total = self._client.get_queue_properties().approximate_message_count or 0
        few = visible < _MAX_PER_CALL
        return Depth(
            visible=visible if few else total,
            in_flight=max(0, total - visible) if few else None,
            exact=False,
            as_of=datetime.now(UTC),
        )

    def close(self) -> None:
        super().close()
        self._service.close()

    # Requests

    def _encode(self, body: bytes) -> str:
        return encode(body)

    def _send(self, messages: Sequence[str], delay: timedelta) -> Mapping[int, Refused]:
        (text,) = messages
        seconds = round(delay.total_seconds()) or None
        with translate_errors("sending to the queue"):
            self._client.send_message(text, visibility_timeout=seconds, time_to_live=_NO_EXPIRY)
        return {}

    def _receive(self, count: int, wait: timedelta) -> Sequence[Received[Receipt]]:
        seconds = round(self._lease.total_seconds())
        with translate_errors("receiving from the queue"):
            pages = self._client.receive_messages(messages_per_page=count, visibility_timeout=seconds)
            # The SDK's iterator would continue until the queue is empty.
            found = [_received(message) for message in next(pages.by_page(), ())]
        if found:
            self._pauses.reset()
        return found

    def _pause(self, left: float) -> None:
        self._closed.wait(min(left, self._pauses.next_pause()))

    def _ack(self, held: Sequence[Held[Receipt]]) -> Mapping[int, Refused]:
        def delete(receipt: Receipt) -> None:
            self._client.delete_message(receipt.message_id, receipt.receipt)
            receipt.receipt = ""

        return _settle_one("acknowledging", held, delete)

    def _change(self, held: Sequence[Held[Receipt]], leases: Sequence[timedelta]) -> Mapping[int, Refused]:
        (lease,) = leases

        def update(receipt: Receipt) -> None:
            if not receipt.receipt:
                # Acked while this call waited for the receipt: its lease was not lost.
                return
            seconds = round(lease.total_seconds())
            response = self._client.update_message(receipt.message_id, receipt.receipt, visibility_timeout=seconds)
            receipt.receipt = response.pop_receipt

        return _settle_one("extending", held, update)


def _settle_one(action: str, held: Sequence[Held[Receipt]], call: Callable[[Receipt], None]) -> Mapping[int, Refused]:
    (one,) = held
    try:
        with one.payload.lock, translate_errors(f"{action} a message"):
            call(one.payload)
    except ProviderError as error:
        if not is_lost(error):
            raise
        return {0: Refused(error.message, transient=False)}
    return {}


def _received(message: Any) -> Received[Receipt]:
    return Received(
        body=decode(str(message.content)),
        payload=Receipt(message.id, message.pop_receipt),
        key=str(message.id),
        delivery_count=message.dequeue_count,
    )


def encode(body: bytes) -> str:
    """Encode a body as the text of a message."""
    return base64.b64encode(body).decode()


def decode(text: str) -> bytes:
    """Decode a body; text that is not valid base64 is returned unchanged."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return text.encode()
