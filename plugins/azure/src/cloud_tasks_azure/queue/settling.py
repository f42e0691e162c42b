"""Acknowledges, releases and extends leases at Storage Queue, one to a call, many calls at once.

A renewal whose answer is lost took the old receipt away and kept the new one to itself: that lease counts as lost, and
its message comes again when the time is over that was asked for.

Invariants, each with a test:

1. A lease belongs to the queue and the consumer that received it: settled elsewhere, it is lost.
2. Trouble with one lease does not keep another one from being settled.
3. The blob of a message goes after the message.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from datetime import timedelta

from cloud_tasks.errors import ProviderError
from cloud_tasks_azure.queue.access import Access
from cloud_tasks_azure.queue.failures import calling, is_lost
from cloud_tasks_azure.queue.leases import Held, LeaseBook
from cloud_tasks_azure.queue.oversize import BlobStore
from cloud_tasks_azure.queue.parallel import Threads
from cloud_tasks_azure.traits import QUEUE_TRAITS as TRAITS

__all__ = ["Settler", "whole_seconds"]

log = logging.getLogger("cloud_tasks_azure.queue")


class Settler:
    """Thread-safe.

    Args:
        book: What is held.
        blobs: Where large bodies are.
    """

    def __init__(self, access: Access, threads: Threads, book: LeaseBook, blobs: BlobStore | None) -> None:
        self._access = access
        self._threads = threads
        self._book = book
        self._blobs = blobs

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        """`Queue.ack`."""

        def delete(held: Held) -> None:
            self._access.client(held.queue).delete_message(held.message_id, held.receipt)

        return self._settle(lease_ids, delete, "acknowledging", after=self._acked)

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        """`Queue.release`."""
        seconds = math.ceil(min(max(delay, timedelta(0)), TRAITS.delay).total_seconds())

        def show(held: Held) -> None:
            self._access.client(held.queue).update_message(held.message_id, held.receipt, visibility_timeout=seconds)

        return self._settle(lease_ids, show, "releasing", after=lambda held: self._book.forget([held.lease_id]))

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        """`Queue.extend`."""
        seconds = whole_seconds(min(lease, TRAITS.max_lease))

        def hide(held: Held) -> None:
            answer = self._access.client(held.queue).update_message(
                held.message_id, held.receipt, visibility_timeout=seconds
            )
            held.receipt = answer.pop_receipt

        return self._settle(lease_ids, hide, "extending", after=lambda held: None)

    def _acked(self, held: Held) -> None:
        self._book.forget([held.lease_id])
        if held.blob is None or self._blobs is None:
            return
        try:
            self._blobs.remove([held.blob])
        except ProviderError as error:
            # The message is done, and that is what was asked; the blob goes with the queue.
            log.warning("A large message could not be removed from Blob Storage: %s", error)

    def _settle(
        self, lease_ids: Sequence[str], call: Callable[[Held], None], doing: str, *, after: Callable[[Held], None]
    ) -> list[str]:
        """Do one thing to each lease; returns those that are lost."""
        held, lost = self._book.split(lease_ids)

        def settle(each: Held) -> ProviderError | None:
            try:
                with each.lock, calling(f"{doing} a message"):
                    call(each)
            except ProviderError as error:
                return error
            after(each)
            return None

        errors = list(zip(held, self._threads.map(settle, held), strict=True))
        gone = [each.lease_id for each, error in errors if error is not None and is_lost(error)]
        self._book.forget(gone)
        trouble = [error for _, error in errors if error is not None and not is_lost(error)]
        if trouble:
            raise trouble[0]
        return lost + gone


def whole_seconds(lease: timedelta) -> int:
    """As Storage Queue counts: one at least."""
    return max(1, math.ceil(lease.total_seconds()))
