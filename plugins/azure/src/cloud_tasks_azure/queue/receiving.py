"""Receiving of messages from Storage Queue, which has no long polls.

A wait consists of polls with growing pauses: from 50 ms to ``azure.queue_poll_seconds``. Each poll is a billed
operation ("Azure Queue Storage pricing"): a consumer that waits for an hour with pauses of 2 s makes 1,800 polls. 64
consumers make 32 calls per second, of the 2,000 that a queue accepts ("Scalability and performance targets for Queue
Storage").

Invariants, each with a test:

1. The pauses of a consumer without messages grow, also over several calls; a message resets them.
2. Messages received by one of several calls are returned even if another call fails.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import Delivery
from cloud_tasks_azure.queue.access import Access
from cloud_tasks_azure.queue.bodies import decode, pointer_in
from cloud_tasks_azure.queue.leases import LeaseTable
from cloud_tasks_azure.queue.oversize import BlobStore
from cloud_tasks_azure.queue.parallel import Threads
from cloud_tasks_azure.queue.queue_errors import is_lost, translate_errors

__all__ = ["PollBackoff", "Receiver"]

log = structlog.get_logger()

MAX_PER_CALL = 32
"""Messages per call; "Get Messages" in the reference of the Queue service."""
_FIRST_PAUSE = 0.05


class PollBackoff:
    """Exponential backoff between polls of an empty queue, in seconds. Thread-safe.

    Args:
        maximum: Maximum pause.
    """

    def __init__(self, maximum: float) -> None:
        self._maximum = maximum
        self._lock = threading.Lock()
        self._next = min(_FIRST_PAUSE, maximum)

    def next_pause(self) -> float:
        """Return the next pause, which grows with each call; randomized, so that consumers do not poll in step."""
        with self._lock:
            pause = self._next
            self._next = min(self._maximum, pause * 2)
        return pause * random.uniform(0.8, 1.0)

    def reset(self) -> None:
        """Return to the first pause after a message arrived."""
        with self._lock:
            self._next = min(_FIRST_PAUSE, self._maximum)


class Receiver:
    """Receives messages. Thread-safe.

    Args:
        leases: Table to add the leases to.
        blobs: Store of large bodies.
        lease: Seconds.
        pauses: Backoff between polls.
    """

    def __init__(
        self,
        access: Access,
        threads: Threads,
        leases: LeaseTable,
        blobs: BlobStore | None,
        *,
        lease: int,
        pauses: PollBackoff,
    ) -> None:
        self._access = access
        self._threads = threads
        self._leases = leases
        self._blobs = blobs
        self._lease = lease
        self._pauses = pauses
        self._closed = threading.Event()

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        """Implement `Queue.receive`."""
        deadline = time.monotonic() + wait.total_seconds()
        while True:
            found, received = self._receive_batch(min(max_messages, MAX_PER_CALL))
            if received:
                self._pauses.reset()
            if received == MAX_PER_CALL < max_messages:
                return found + self._receive_more(max_messages - MAX_PER_CALL)
            left = deadline - time.monotonic()
            if found or left <= 0 or self._closed.wait(min(left, self._pauses.next_pause())):
                return found

    def close(self) -> None:
        """Interrupt waiting calls."""
        self._closed.set()

    def _receive_more(self, remaining: int) -> list[Delivery]:
        """Receive more with concurrent calls while at least half of the requested messages arrive."""
        found: list[Delivery] = []
        while remaining > 0:
            sizes = [min(MAX_PER_CALL, remaining - start) for start in range(0, remaining, MAX_PER_CALL)]
            wave = sizes[: self._threads.count]
            results = self._threads.map(self._receive_if_any, wave)
            received = sum(number for _, number in results)
            found += [delivery for some, _ in results for delivery in some]
            remaining -= received
            if received * 2 < sum(wave):
                break
        return found

    def _receive_if_any(self, count: int) -> tuple[list[Delivery], int]:
        try:
            return self._receive_batch(count)
        except ProviderError:
            # Messages of the other calls must be returned; a persistent error is raised by the next receive.
            return [], 0

    def _receive_batch(self, count: int) -> tuple[list[Delivery], int]:
        """Return the deliveries and the number of messages; a message without its body is no delivery."""

        def receive(physical: str) -> tuple[str, list[Any]]:
            pages = self._access.client(physical).receive_messages(
                messages_per_page=count, visibility_timeout=self._lease
            )
            # The SDK's iterator would continue until the queue is empty.
            return physical, list(next(pages.by_page(), ()))

        physical, messages = self._access.call("receiving from the queue", receive)
        return self._deliveries(physical, messages), len(messages)

    def _deliveries(self, physical: str, messages: Sequence[Any]) -> list[Delivery]:
        """Return the deliveries; a message whose body cannot be read now is redelivered when its lease ends."""
        found: list[Delivery] = []
        failure: ProviderError | None = None
        for message in messages:
            try:
                delivery = self._delivery(physical, message)
            except ProviderError as error:
                failure = error
                continue
            if delivery is not None:
                found.append(delivery)
        if failure is not None and not found:
            raise failure
        return found

    def _delivery(self, physical: str, message: Any) -> Delivery | None:
        text = str(message.content)
        blob = pointer_in(text)
        body: bytes | None
        if blob is None:
            body = decode(text)
        elif self._blobs is None:
            raise ProviderError("message body is in a blob", hint="set azure.oversize_container as on the sender")
        else:
            body = self._blobs.get(blob)
        if body is None:
            self._drop(physical, message, blob)
            return None
        lease_id = self._leases.add(physical, message.id, message.pop_receipt, blob=blob)
        return Delivery(lease_id=lease_id, body=body, delivery_count=message.dequeue_count)

    def _drop(self, physical: str, message: Any, blob: str | None) -> None:
        # The blob is deleted only after an acknowledgement: this message is a duplicate of a finished one.
        log.warning(f"Large message no longer in Blob Storage ({blob}); assumed to be a duplicate of a finished one")
        try:
            with translate_errors("acknowledging a message"):
                self._access.client(physical).delete_message(message.id, message.pop_receipt)
        except NotFoundError:
            pass
        except ProviderError as error:
            if not is_lost(error):
                raise
