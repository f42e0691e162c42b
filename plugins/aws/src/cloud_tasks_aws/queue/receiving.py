"""Receives messages from SQS: long polls, and many calls at once when there is much.

Invariants, each with a test:

1. An empty answer means that all of SQS's servers were asked.
2. What one call of several brought is never lost by the trouble of another.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import Delivery
from cloud_tasks_aws.failures import calling
from cloud_tasks_aws.queue.access import Access
from cloud_tasks_aws.queue.bodies import BATCH_ENTRIES, POINTER, decode, form_of
from cloud_tasks_aws.queue.leases import LeaseBook
from cloud_tasks_aws.queue.names import is_fifo
from cloud_tasks_aws.queue.oversize import ObjectStore
from cloud_tasks_aws.queue.parallel import Threads

__all__ = ["SHORTEST_POLL", "Receiver"]

# The worker configures no structlog; what this logger says reaches its error output all the same.
log = logging.getLogger("cloud_tasks_aws.queue")

SHORTEST_POLL = 1
"""Seconds. A long poll asks all of SQS's servers, one of no seconds a sample of them: it may miss what is there."""
_LONGEST_POLL = 20
"""Seconds; "ReceiveMessage", Amazon SQS API Reference."""
_PAUSE = 0.1


class Receiver:
    """Thread-safe.

    Args:
        book: Where leases are written down.
        objects: Where messages over the limit are.
        lease: Seconds.
        shortest_poll: Seconds that an empty answer takes at least.
    """

    def __init__(
        self,
        access: Access,
        threads: Threads,
        book: LeaseBook,
        objects: ObjectStore | None,
        *,
        lease: int,
        shortest_poll: int,
    ) -> None:
        self._access = access
        self._threads = threads
        self._book = book
        self._objects = objects
        self._lease = lease
        self._shortest_poll = shortest_poll

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        """`Queue.receive`; an empty answer takes a second at least."""
        deadline = time.monotonic() + wait.total_seconds()
        while True:
            left = deadline - time.monotonic()
            poll = min(_LONGEST_POLL, max(self._shortest_poll, round(left)))
            found = self._receive_batch(min(max_messages, BATCH_ENTRIES), poll)
            if len(found) == BATCH_ENTRIES < max_messages:
                return found + self._receive_more(max_messages - BATCH_ENTRIES)
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            if left < 1:
                # SQS counts in seconds; what is left of one is not worth another of them.
                time.sleep(min(left, _PAUSE))

    def _receive_more(self, wanted: int) -> list[Delivery]:
        """What else is there now, many calls at once, for as long as most of it comes."""
        found: list[Delivery] = []
        while wanted > 0:
            sizes = [min(BATCH_ENTRIES, wanted - start) for start in range(0, wanted, BATCH_ENTRIES)]
            wave = sizes[: self._threads.count]
            got = [one for some in self._threads.map(self._receive_if_any, wave) for one in some]
            found += got
            wanted -= len(got)
            if len(got) * 2 < sum(wave):
                break
        return found

    def _receive_if_any(self, count: int) -> list[Delivery]:
        try:
            return self._receive_batch(count, 0)
        except ProviderError:
            # What others of the same call received must not be lost with it; trouble that lasts shows in the next call.
            return []

    def _receive_batch(self, count: int, poll: int) -> list[Delivery]:
        def ask(url: str) -> list[Delivery]:
            # With an attempt id a repeated request brings the same messages, not the next ones.
            extra = {"ReceiveRequestAttemptId": uuid4().hex} if is_fifo(url) else {}
            answer = self._access.client.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=count,
                WaitTimeSeconds=poll,
                VisibilityTimeout=self._lease,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
                MessageAttributeNames=["All"],
                **extra,
            )
            return self._deliveries(url, answer.get("Messages") or ())

        return self._access.call("receiving from the queue", ask)

    def _deliveries(self, url: str, messages: Sequence[Mapping[str, Any]]) -> list[Delivery]:
        """What the messages carry; one whose body cannot be had now comes back when its lease ends."""
        found: list[Delivery] = []
        trouble: ProviderError | None = None
        for message in messages:
            try:
                delivery = self._delivery(url, message)
            except ProviderError as error:
                trouble = error
                continue
            if delivery is not None:
                found.append(delivery)
        if trouble is not None and not found:
            raise trouble
        return found

    def _delivery(self, url: str, message: Mapping[str, Any]) -> Delivery | None:
        handle, text, form = message["ReceiptHandle"], message["Body"], form_of(message)
        key = text if form == POINTER else None
        body: bytes | None = decode(text, form)
        if key is not None:
            if self._objects is None:
                raise ProviderError("a message refers to S3", hint="set aws.oversize_location as its sender had it")
            body = self._objects.get(key)
        if body is None:
            # Its object goes only after it was acked: this is one more copy of what is done.
            log.warning("A large message is not at S3 any more (%s); it is taken for one that was done", key)
            with calling("acknowledging a message"):
                self._access.client.delete_message(QueueUrl=url, ReceiptHandle=handle)
            return None
        self._book.add(url, handle, self._lease, object_key=key)
        count = int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))
        return Delivery(lease_id=handle, body=body, delivery_count=count)
