"""Sends messages to Storage Queue, one to a call, many calls at once.

Invariants, each with a test:

1. What was not reported as failed is in the queue; what was reported may be there too, where an answer was lost.
2. A message never ends by its age: the service's own seven days are switched off.
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

_FOR_EVER = -1
"""Seconds to live: "Put Message" in the reference of the Queue service."""


class Sender:
    """Thread-safe.

    Args:
        blobs: Where large bodies go; None: they are refused.
    """

    def __init__(self, access: Access, threads: Threads, blobs: BlobStore | None) -> None:
        self._access = access
        self._threads = threads
        self._blobs = blobs

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        """`Queue.send`."""
        if not bodies:
            return []
        # A queue that is not there is found out by one, and not by all of them at once.
        self._access.generations.current()
        seconds = math.ceil(min(delay, TRAITS.delay).total_seconds())
        errors = self._threads.map(lambda body: self._send_one(body, seconds), bodies)
        failed = [(index, error) for index, error in enumerate(errors) if error is not None]
        if len(failed) == len(bodies):
            # Of several reasons that one is told which repeating does not mend, if any.
            troubles = [error for _, error in failed if not isinstance(error, _TooLargeError)]
            if troubles:
                raise min(troubles, key=lambda error: error.transient)
        return [SendFailure(index=index, reason=str(error), transient=error.transient) for index, error in failed]

    def _send_one(self, body: bytes, delay: int) -> ProviderError | None:
        try:
            text = self._text(body)
            self._access.call("sending to the queue", lambda physical: self._put(physical, text, delay))
        except ProviderError as error:
            return error
        return None

    def _put(self, physical: str, text: str, delay: int) -> None:
        self._access.client(physical).send_message(text, visibility_timeout=delay or None, time_to_live=_FOR_EVER)

    def _text(self, body: bytes) -> str:
        if len(body) > TRAITS.max_message_bytes:
            raise _TooLargeError(f"{len(body)} bytes, the limit is {TRAITS.max_message_bytes}")
        if len(body) <= INLINE_BYTES:
            return encode(body)
        if self._blobs is None:
            raise _TooLargeError(
                f"{len(body)} bytes, the limit of a message is {INLINE_BYTES}", hint="see azure.oversize_container"
            )
        try:
            return pointer(self._blobs.put(body))
        except NotFoundError as error:
            # Not to be taken for the queue's own absence.
            raise ProviderError(error.message, hint="see azure.oversize_container") from error


class _TooLargeError(ProviderError):
    """One message that can never be sent; the others can."""
