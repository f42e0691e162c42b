"""Batched acknowledgement, release and extension of SQS leases.

Invariants, each with a test:

1. A lease belongs to the queue generation and the consumer that received it; for any other it is lost.
2. A failed call does not affect the leases settled by another call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_aws.errors import translate_errors
from cloud_tasks_aws.queue.access import Access
from cloud_tasks_aws.queue.bodies import BATCH_ENTRIES
from cloud_tasks_aws.queue.leases import Held, LeaseTable
from cloud_tasks_aws.queue.oversize import ObjectStore
from cloud_tasks_aws.queue.parallel import Threads, call_batch
from cloud_tasks_aws.traits import QUEUE_TRAITS as TRAITS

__all__ = ["Settler", "whole_seconds"]


class Settler:
    """Settles leases. Thread-safe.

    Args:
        leases: Leases of this consumer.
        objects: Store of bodies over the size limit.
    """

    def __init__(self, access: Access, threads: Threads, leases: LeaseTable, objects: ObjectStore | None) -> None:
        self._access = access
        self._threads = threads
        self._leases = leases
        self._objects = objects

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        held, lost = self._leases.split(lease_ids)

        def delete(url: str, some: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
            response: Mapping[str, Any] = self._access.client.delete_message_batch(QueueUrl=url, Entries=some)
            return response

        return lost + self._settle(held, lambda each: {}, delete, "acknowledging", after=self._removed)

    def _removed(self, done: Sequence[Held]) -> None:
        self._forget(done)
        keys = [each.object_key for each in done if each.object_key is not None]
        if keys and self._objects is not None:
            self._objects.remove(keys)

    def _forget(self, done: Sequence[Held]) -> None:
        self._leases.forget([each.handle for each in done])

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        seconds = min(math.ceil(delay.total_seconds()), round(TRAITS.delay.total_seconds()))
        held, lost = self._leases.split(lease_ids)
        allowed = {each.handle: min(seconds, self._leases.allowed(each, seconds)) for each in held} if seconds else {}

        def timeout(each: Held) -> Mapping[str, Any]:
            return {"VisibilityTimeout": allowed.get(each.handle, 0)}

        return lost + self._settle(held, timeout, self._change, "releasing", after=self._forget)

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        """Implement `Queue.extend`; a lease ends twelve hours after receipt at the latest."""
        seconds = whole_seconds(min(lease, TRAITS.max_lease))
        started = self._leases.now()
        held, lost = self._leases.split(lease_ids)
        allowed = {each.handle: self._leases.allowed(each, seconds) for each in held}
        expired = [each.handle for each in held if not allowed[each.handle]]
        self._leases.forget(expired)
        extendable = [each for each in held if allowed[each.handle]]

        def timeout(each: Held) -> Mapping[str, Any]:
            return {"VisibilityTimeout": allowed[each.handle]}

        def extended(done: Sequence[Held]) -> None:
            for each in done:
                self._leases.extended(each.handle, started + allowed[each.handle])

        return lost + expired + self._settle(extendable, timeout, self._change, "extending", after=extended)

    def _change(self, url: str, some: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        response: Mapping[str, Any] = self._access.client.change_message_visibility_batch(QueueUrl=url, Entries=some)
        return response

    def _settle(
        self,
        held: Sequence[Held],
        values: Callable[[Held], Mapping[str, Any]],
        call: Callable[[str, Sequence[Mapping[str, Any]]], Mapping[str, Any]],
        action: str,
        *,
        after: Callable[[Sequence[Held]], None],
    ) -> list[str]:
        """Apply one call to each lease and return the handles that SQS reported as lost.

        Args:
            after: Called with the settled leases, also if others failed.
        """

        def settle(chunk: Sequence[Held]) -> tuple[list[Held], list[str], ProviderError | None]:
            url = chunk[0].url
            entries = [{"Id": str(n), "ReceiptHandle": each.handle, **values(each)} for n, each in enumerate(chunk)]
            try:
                with translate_errors(f"{action} messages"):
                    failed = call_batch(lambda some: call(url, some), entries)
            except NotFoundError:
                self._access.generations.mark_deleted(url)
                return [], [each.handle for each in chunk], None
            except ProviderError as error:
                return [], [], error
            transient = [each for each in failed.values() if each.transient]
            failure = ProviderError(f"{action} messages: {transient[0].code}", transient=True) if transient else None
            lost = [chunk[int(key)].handle for key, each in failed.items() if not each.transient]
            return [each for n, each in enumerate(chunk) if str(n) not in failed], lost, failure

        results = self._threads.map(settle, _by_queue(held))
        lost = [handle for _, some, _ in results for handle in some]
        self._leases.forget(lost)
        after([each for some, _, _ in results for each in some])
        errors = [error for _, _, error in results if error is not None]
        if errors:
            raise errors[0]
        return lost


def whole_seconds(lease: timedelta) -> int:
    """Round a lease up to whole seconds, at least one."""
    return max(1, math.ceil(lease.total_seconds()))


def _by_queue(held: Sequence[Held]) -> list[list[Held]]:
    """Divide leases into calls of ten, each for one queue."""
    queues: dict[str, list[Held]] = {}
    for each in held:
        queues.setdefault(each.url, []).append(each)
    return [
        some[start : start + BATCH_ENTRIES] for some in queues.values() for start in range(0, len(some), BATCH_ENTRIES)
    ]
