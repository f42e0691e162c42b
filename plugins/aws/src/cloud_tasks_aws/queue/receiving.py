"""Receiving of messages from SQS: long polls, and concurrent calls for large batches.

Invariants, each with a test:

1. An empty result means that all SQS servers were queried.
2. Messages received by one of several calls are returned even if another call fails.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import structlog

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import Delivery
from cloud_tasks_aws.errors import translate_errors
from cloud_tasks_aws.queue.access import Access
from cloud_tasks_aws.queue.bodies import BATCH_ENTRIES, POINTER, decode, encoding_of
from cloud_tasks_aws.queue.leases import LeaseTable
from cloud_tasks_aws.queue.names import is_fifo
from cloud_tasks_aws.queue.oversize import ObjectStore
from cloud_tasks_aws.queue.parallel import Threads

__all__ = ["MIN_POLL_SECONDS", "Receiver"]

log = structlog.get_logger()

MIN_POLL_SECONDS = 1
"""Seconds. A long poll queries all SQS servers; a poll of zero seconds queries a sample and may miss messages."""
_MAX_POLL_SECONDS = 20
"""Seconds; "ReceiveMessage", Amazon SQS API Reference."""
_MAX_PAUSE = 0.1


class Receiver:
    """Receives messages. Thread-safe.

    Args:
        leases: Table to add the leases to.
        objects: Store of bodies over the size limit.
        lease: Seconds.
        min_poll_seconds: Minimum seconds of a call without messages.
    """

    def __init__(
        self,
        access: Access,
        threads: Threads,
        leases: LeaseTable,
        objects: ObjectStore | None,
        *,
        lease: int,
        min_poll_seconds: int,
    ) -> None:
        self._access = access
        self._threads = threads
        self._leases = leases
        self._objects = objects
        self._lease = lease
        self._min_poll_seconds = min_poll_seconds

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        """Implement `Queue.receive`; an empty result takes at least a second."""
        deadline = time.monotonic() + wait.total_seconds()
        while True:
            left = deadline - time.monotonic()
            poll = min(_MAX_POLL_SECONDS, max(self._min_poll_seconds, round(left)))
            found = self._receive_batch(min(max_messages, BATCH_ENTRIES), poll)
            if len(found) == BATCH_ENTRIES < max_messages:
                return found + self._receive_more(max_messages - BATCH_ENTRIES)
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            if left < 1:
                # SQS counts whole seconds; another poll would exceed the deadline.
                time.sleep(min(left, _MAX_PAUSE))

    def _receive_more(self, remaining: int) -> list[Delivery]:
        """Receive more with concurrent calls while at least half of the requested messages arrive."""
        found: list[Delivery] = []
        while remaining > 0:
            sizes = [min(BATCH_ENTRIES, remaining - start) for start in range(0, remaining, BATCH_ENTRIES)]
            wave = sizes[: self._threads.count]
            received = [one for some in self._threads.map(self._receive_if_any, wave) for one in some]
            found += received
            remaining -= len(received)
            if len(received) * 2 < sum(wave):
                break
        return found

    def _receive_if_any(self, count: int) -> list[Delivery]:
        try:
            return self._receive_batch(count, 0)
        except ProviderError:
            # Messages of the other calls must be returned; a persistent error is raised by the next receive.
            return []

    def _receive_batch(self, count: int, poll: int) -> list[Delivery]:
        def receive(url: str) -> list[Delivery]:
            # With an attempt id a repeated request returns the same messages, not the next ones.
            extra = {"ReceiveRequestAttemptId": uuid4().hex} if is_fifo(url) else {}
            response = self._access.client.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=count,
                WaitTimeSeconds=poll,
                VisibilityTimeout=self._lease,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
                MessageAttributeNames=["All"],
                **extra,
            )
            return self._deliveries(url, response.get("Messages") or ())

        return self._access.call("receiving from the queue", receive)

    def _deliveries(self, url: str, messages: Sequence[Mapping[str, Any]]) -> list[Delivery]:
        """Return the deliveries; a message whose body cannot be read now is redelivered when its lease ends."""
        found: list[Delivery] = []
        failure: ProviderError | None = None
        for message in messages:
            try:
                delivery = self._delivery(url, message)
            except ProviderError as error:
                failure = error
                continue
            if delivery is not None:
                found.append(delivery)
        if failure is not None and not found:
            raise failure
        return found

    def _delivery(self, url: str, message: Mapping[str, Any]) -> Delivery | None:
        handle, text, encoding = message["ReceiptHandle"], message["Body"], encoding_of(message)
        key = text if encoding == POINTER else None
        body: bytes | None = decode(text, encoding)
        if key is not None:
            if self._objects is None:
                raise ProviderError("message body is in S3", hint="set aws.oversize_location as on the sender")
            body = self._objects.get(key)
        if body is None:
            # The object is deleted only after an acknowledgement: this message is a duplicate of a finished one.
            log.warning(f"Large message no longer in S3 ({key}); assumed to be a duplicate of a finished one")
            with translate_errors("acknowledging a message"):
                self._access.client.delete_message(QueueUrl=url, ReceiptHandle=handle)
            return None
        self._leases.add(url, handle, self._lease, object_key=key)
        count = int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))
        return Delivery(lease_id=handle, body=body, delivery_count=count)
