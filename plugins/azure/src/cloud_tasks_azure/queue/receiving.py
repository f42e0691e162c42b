"""Receives messages from Storage Queue, which answers at once whether there are any or not.

A wait is made of looks with growing pauses: from a twentieth of a second to ``azure.queue_poll_seconds``. Each look is
one operation that is charged ("Azure Queue Storage pricing"): a consumer that waits for an hour at a pause of two
seconds makes 1,800 of them. Sixty-four consumers make 32 calls a second, of the 2,000 that a queue takes ("Scalability
and performance targets for Queue Storage").

Invariants, each with a test:

1. A consumer that finds nothing looks ever less often, also over several calls; one message ends that.
2. What one call of several brought is never lost by the trouble of another.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import Delivery
from cloud_tasks_azure.queue.access import Access
from cloud_tasks_azure.queue.bodies import decode, pointer_in
from cloud_tasks_azure.queue.failures import calling, is_lost
from cloud_tasks_azure.queue.leases import LeaseBook
from cloud_tasks_azure.queue.oversize import BlobStore
from cloud_tasks_azure.queue.parallel import Threads

__all__ = ["Pauses", "Receiver"]

# The worker configures no structlog; what this logger says reaches its error output all the same.
log = logging.getLogger("cloud_tasks_azure.queue")

PER_CALL = 32
"""Messages; "Get Messages" in the reference of the Queue service."""
_FIRST_PAUSE = 0.05


class Pauses:
    """How long to wait after a look that brought nothing, in seconds. Thread-safe.

    Args:
        longest: The pause that it grows to.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._lock = threading.Lock()
        self._next = min(_FIRST_PAUSE, longest)

    def next(self) -> float:
        """The pause now; the next one is longer. Consumers that began together do not stay together."""
        with self._lock:
            pause = self._next
            self._next = min(self._longest, pause * 2)
        return pause * random.uniform(0.8, 1.0)

    def reset(self) -> None:
        """Something came."""
        with self._lock:
            self._next = min(_FIRST_PAUSE, self._longest)


class Receiver:
    """Thread-safe.

    Args:
        book: Where leases are written down.
        blobs: Where large bodies are.
        lease: Seconds.
    """

    def __init__(
        self,
        access: Access,
        threads: Threads,
        book: LeaseBook,
        blobs: BlobStore | None,
        *,
        lease: int,
        pauses: Pauses,
    ) -> None:
        self._access = access
        self._threads = threads
        self._book = book
        self._blobs = blobs
        self._lease = lease
        self._pauses = pauses
        self._closed = threading.Event()

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        """`Queue.receive`."""
        deadline = time.monotonic() + wait.total_seconds()
        while True:
            asked = min(max_messages, PER_CALL)
            found, came = self._receive_batch(asked)
            if came:
                self._pauses.reset()
            if came == PER_CALL < max_messages:
                return found + self._receive_more(max_messages - PER_CALL)
            left = deadline - time.monotonic()
            if found or left <= 0 or self._closed.wait(min(left, self._pauses.next())):
                return found

    def close(self) -> None:
        """End the waits."""
        self._closed.set()

    def _receive_more(self, wanted: int) -> list[Delivery]:
        """What else is there now, many calls at once, for as long as most of it comes."""
        found: list[Delivery] = []
        while wanted > 0:
            sizes = [min(PER_CALL, wanted - start) for start in range(0, wanted, PER_CALL)]
            wave = sizes[: self._threads.count]
            got = self._threads.map(self._receive_if_any, wave)
            came = sum(number for _, number in got)
            found += [delivery for some, _ in got for delivery in some]
            wanted -= came
            if came * 2 < sum(wave):
                break
        return found

    def _receive_if_any(self, count: int) -> tuple[list[Delivery], int]:
        try:
            return self._receive_batch(count)
        except ProviderError:
            # What others of the same call received must not be lost with it; trouble that lasts shows in the next call.
            return [], 0

    def _receive_batch(self, count: int) -> tuple[list[Delivery], int]:
        """Deliveries, and how many messages came: one whose body is gone is no delivery."""

        def ask(physical: str) -> tuple[str, list[Any]]:
            pages = self._access.client(physical).receive_messages(
                messages_per_page=count, visibility_timeout=self._lease
            )
            # The SDK's iterator would go on until there is nothing more.
            return physical, list(next(pages.by_page(), ()))

        physical, messages = self._access.call("receiving from the queue", ask)
        return self._deliveries(physical, messages), len(messages)

    def _deliveries(self, physical: str, messages: Sequence[Any]) -> list[Delivery]:
        """What the messages carry; one whose body cannot be had now comes back when its lease ends."""
        found: list[Delivery] = []
        trouble: ProviderError | None = None
        for message in messages:
            try:
                delivery = self._delivery(physical, message)
            except ProviderError as error:
                trouble = error
                continue
            if delivery is not None:
                found.append(delivery)
        if trouble is not None and not found:
            raise trouble
        return found

    def _delivery(self, physical: str, message: Any) -> Delivery | None:
        text = str(message.content)
        blob = pointer_in(text)
        body: bytes | None
        if blob is None:
            body = decode(text)
        elif self._blobs is None:
            raise ProviderError("a message refers to a blob", hint="set azure.oversize_container as its sender had it")
        else:
            body = self._blobs.get(blob)
        if body is None:
            self._drop(physical, message, blob)
            return None
        lease_id = self._book.add(physical, message.id, message.pop_receipt, blob=blob)
        return Delivery(lease_id=lease_id, body=body, delivery_count=message.dequeue_count)

    def _drop(self, physical: str, message: Any, blob: str | None) -> None:
        # Its blob goes only after it was acknowledged: this is one more copy of what is done.
        log.warning("A large message is not at Blob Storage any more (%s); it is taken for one that was done", blob)
        try:
            with calling("acknowledging a message"):
                self._access.client(physical).delete_message(message.id, message.pop_receipt)
        except NotFoundError:
            pass
        except ProviderError as error:
            if not is_lost(error):
                raise
