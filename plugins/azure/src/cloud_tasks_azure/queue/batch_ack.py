"""Acknowledgement, release and extension of Storage Queue leases, one per call, with concurrent calls.

A renewal replaces the receipt; if its response is lost, so is the new receipt: the lease counts as lost, and the
message is redelivered when the renewed lease ends.

Invariants, each with a test:

1. A lease belongs to the queue and the consumer that received it; for any other it is lost.
2. A failure for one lease does not affect the others.
3. The blob of a message is deleted after the message.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from cloud_tasks.errors import ProviderError
from cloud_tasks_azure.queue.access import Access
from cloud_tasks_azure.queue.leases import Held, LeaseTable
from cloud_tasks_azure.queue.oversize import BlobStore
from cloud_tasks_azure.queue.parallel import Threads
from cloud_tasks_azure.queue.queue_errors import is_lost, translate_errors
from cloud_tasks_azure.traits import QUEUE_TRAITS as TRAITS

__all__ = ["Settler", "whole_seconds"]

log = structlog.get_logger()


class Settler:
    """Settles leases. Thread-safe.

    Args:
        leases: Leases of this consumer.
        blobs: Store of large bodies.
    """

    def __init__(self, access: Access, threads: Threads, leases: LeaseTable, blobs: BlobStore | None) -> None:
        self._access = access
        self._threads = threads
        self._leases = leases
        self._blobs = blobs

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        """Implement `Queue.ack`."""

        def delete(held: Held) -> None:
            self._access.client(held.queue).delete_message(held.message_id, held.receipt)

        return self._settle(lease_ids, delete, "acknowledging", after=self._acked)

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        """Implement `Queue.release`."""
        seconds = math.ceil(min(max(delay, timedelta(0)), TRAITS.delay).total_seconds())

        def show(held: Held) -> None:
            self._access.client(held.queue).update_message(held.message_id, held.receipt, visibility_timeout=seconds)

        return self._settle(lease_ids, show, "releasing", after=lambda held: self._leases.forget([held.lease_id]))

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        """Implement `Queue.extend`."""
        seconds = whole_seconds(min(lease, TRAITS.max_lease))

        def hide(held: Held) -> None:
            response = self._access.client(held.queue).update_message(
                held.message_id, held.receipt, visibility_timeout=seconds
            )
            held.receipt = response.pop_receipt

        return self._settle(lease_ids, hide, "extending", after=lambda held: None)

    def _acked(self, held: Held) -> None:
        self._leases.forget([held.lease_id])
        if held.blob is None or self._blobs is None:
            return
        try:
            self._blobs.remove([held.blob])
        except ProviderError as error:
            # The acknowledgement succeeded; the blob is deleted with the queue.
            log.warning(f"Cannot delete a large message from Blob Storage: {error}")

    def _settle(
        self,
        lease_ids: Sequence[str],
        call: Callable[[Held], None],
        action: str,
        *,
        after: Callable[[Held], None],
    ) -> list[str]:
        """Apply one call to each lease and return the lost ones."""
        held, lost = self._leases.split(lease_ids)

        def settle(each: Held) -> ProviderError | None:
            try:
                with each.lock, translate_errors(f"{action} a message"):
                    call(each)
            except ProviderError as error:
                return error
            after(each)
            return None

        errors = list(zip(held, self._threads.map(settle, held), strict=True))
        gone = [each.lease_id for each, error in errors if error is not None and is_lost(error)]
        self._leases.forget(gone)
        failures = [error for _, error in errors if error is not None and not is_lost(error)]
        if failures:
            raise failures[0]
        return lost + gone


def whole_seconds(lease: timedelta) -> int:
    """Round a lease up to whole seconds, at least one."""
    return max(1, math.ceil(lease.total_seconds()))
