"""Sending of messages to SQS.

Invariants, each with a test:

1. A message not reported as failed is in SQS; a reported one may be too, if a response was lost.
2. Every message has its own deduplication id: a repeated request creates one message, a deliberate resend another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import attrs

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import SendFailure
from cloud_tasks_aws.queue.access import Access
from cloud_tasks_aws.queue.bodies import MESSAGE_BYTES, Encoded, batches, encode, pointer
from cloud_tasks_aws.queue.names import is_fifo
from cloud_tasks_aws.queue.oversize import ObjectStore
from cloud_tasks_aws.queue.parallel import Threads, call_batch
from cloud_tasks_aws.traits import QUEUE_TRAITS as TRAITS

__all__ = ["Sender"]


@attrs.frozen
class _Outcome:
    """Result of one call."""

    failures: tuple[SendFailure, ...] = ()
    error: ProviderError | None = None


class Sender:
    """Sends messages. Thread-safe.

    Args:
        objects: Store of bodies over the size limit; None: they are refused.
    """

    def __init__(self, access: Access, threads: Threads, objects: ObjectStore | None) -> None:
        self._access = access
        self._threads = threads
        self._objects = objects

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        """Implement `Queue.send`; FIFO queues have no delay of single messages and ignore it."""
        ready, failures = self._prepare(bodies)
        seconds = min(math.ceil(delay.total_seconds()), round(TRAITS.delay.total_seconds()))
        outcomes = self._threads.map(lambda batch: self._send_batch(batch, seconds), list(batches(ready)))
        errors = [outcome.error for outcome in outcomes if outcome.error is not None]
        if errors and len(errors) == len(outcomes):
            raise errors[0]
        failures += [failure for outcome in outcomes for failure in outcome.failures]
        return sorted(failures, key=lambda failure: failure.index)

    def _prepare(self, bodies: Sequence[bytes]) -> tuple[list[Encoded], list[SendFailure]]:
        encoded = [encode(index, body) for index, body in enumerate(bodies)]
        large = [message for message in encoded if message.size > MESSAGE_BYTES]
        if not large:
            return encoded, []
        ready = {message.index: message for message in encoded}
        failures = []
        for moved in self._threads.map(lambda message: self._move(message.index, bodies), large):
            if isinstance(moved, SendFailure):
                failures.append(moved)
                del ready[moved.index]
            else:
                ready[moved.index] = moved
        return list(ready.values()), failures

    def _move(self, index: int, bodies: Sequence[bytes]) -> Encoded | SendFailure:
        if self._objects is None:
            reason = f"{len(bodies[index]):,} bytes exceed the SQS limit of {MESSAGE_BYTES:,} (lower for binary data)"
            return SendFailure(index=index, reason=f"{reason}; set aws.oversize_location", transient=False)
        try:
            return pointer(index, self._objects.put(bodies[index]))
        except ProviderError as error:
            return SendFailure(index=index, reason=str(error), transient=error.transient)

    def _send_batch(self, batch: Sequence[Encoded], delay: int) -> _Outcome:
        unique = uuid4().hex

        def entry(number: int, message: Encoded, fifo: bool) -> dict[str, Any]:
            result: dict[str, Any] = {"Id": str(number), "MessageBody": message.text}
            if message.attributes:
                result["MessageAttributes"] = message.attributes
            if fifo:
                result |= {"MessageGroupId": f"{unique}{number}", "MessageDeduplicationId": f"{unique}{number}"}
            elif delay:
                result["DelaySeconds"] = delay
            return result

        def send(url: str) -> _Outcome:
            entries = [entry(number, message, is_fifo(url)) for number, message in enumerate(batch)]
            failed = call_batch(
                lambda some: self._access.client.send_message_batch(QueueUrl=url, Entries=some), entries
            )
            return _Outcome(
                tuple(
                    SendFailure(
                        index=batch[int(key)].index, reason=f"{why.code}: {why.message}", transient=why.transient
                    )
                    for key, why in failed.items()
                )
            )

        try:
            return self._access.call("sending to the queue", send)
        except ProviderError as error:
            failures = (
                SendFailure(index=message.index, reason=str(error), transient=error.transient) for message in batch
            )
            return _Outcome(tuple(failures), error)
