"""Sending of messages to Storage Queue, one per call, with concurrent calls.

Invariants, each with a test:

1. A message not reported as failed is in the queue; a reported one may be too, if a response was lost.
2. Messages do not expire: the service's default of seven days is disabled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import SendFailure
from cloud_tasks_azure.queue.access import Access
from cloud_tasks_azure.queue.bodies import INLINE_BYTES, encode, pointer
from cloud_tasks_azure.queue.oversize import BlobStore
from cloud_tasks_azure.queue.parallel import Threads
from cloud_tasks_azure.traits import QUEUE_TRAITS as TRAITS

__all__ = ["Sender"]

_NO_EXPIRY = -1
"""Time to live: "Put Message" in the reference of the Queue service."""


class Sender:
    """Sends messages. Thread-safe.

    Args:
        blobs: Store of large bodies; None: they are refused.
    """

    def __init__(self, access: Access, threads: Threads, blobs: BlobStore | None) -> None:
        self._access = access
        self._threads = threads
        self._blobs = blobs

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        """Implement `Queue.send`."""
        if not bodies:
            return []
        # A missing queue is detected by one call, not by one per message.
        self._access.generations.current()
        seconds = math.ceil(min(delay, TRAITS.delay).total_seconds())
        errors = self._threads.map(lambda body: self._send_one(body, seconds), bodies)
        failed = [(index, error) for index, error in enumerate(errors) if error is not None]
        if len(failed) == len(bodies):
            # Raise a permanent error in preference to a transient one.
            raisable = [error for _, error in failed if not isinstance(error, _TooLargeError)]
            if raisable:
                raise min(raisable, key=lambda error: error.transient)
        return [SendFailure(index=index, reason=str(error), transient=error.transient) for index, error in failed]

    def _send_one(self, body: bytes, delay: int) -> ProviderError | None:
        try:
            text = self._text(body)
            self._access.call("sending to the queue", lambda physical: self._put(physical, text, delay))
        except ProviderError as error:
            return error
        return None

    def _put(self, physical: str, text: str, delay: int) -> None:
        self._access.client(physical).send_message(text, visibility_timeout=delay or None, time_to_live=_NO_EXPIRY)

    def _text(self, body: bytes) -> str:
        if len(body) > TRAITS.max_message_bytes:
            raise _TooLargeError(f"{len(body):,} bytes exceed the limit of {TRAITS.max_message_bytes:,}")
        if len(body) <= INLINE_BYTES:
            return encode(body)
        if self._blobs is None:
            raise _TooLargeError(
                f"{len(body):,} bytes exceed the message limit of {INLINE_BYTES:,}", hint="set azure.oversize_container"
            )
        try:
            return pointer(self._blobs.put(body))
        except NotFoundError as error:
            # `NotFoundError` would mean that the queue is missing.
            raise ProviderError(error.message, hint="check azure.oversize_container") from error


class _TooLargeError(ProviderError):
    """A message too large to send; the other messages are sent."""
