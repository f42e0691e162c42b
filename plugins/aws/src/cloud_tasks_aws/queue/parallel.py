"""Concurrent batch calls, in which each entry succeeds or fails by itself.

Invariants, each with a test:

1. An entry with a transient error is retried; the other entries of its call are not.
2. A permanent failure is returned with its code; an entry missing from the response counts as failed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import attrs

from cloud_tasks_aws.errors import is_transient_code

__all__ = ["EntryFailure", "Threads", "call_batch"]

_T = TypeVar("_T")
_R = TypeVar("_R")
_MAX_ATTEMPTS = 4
_INITIAL_BACKOFF = 0.2


@attrs.frozen(kw_only=True)
class EntryFailure:
    """Failure of one entry of a batch call."""

    code: str
    message: str
    transient: bool


class Threads:
    """A thread pool; a single item runs in the caller's thread."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self.count = count

    def map(self, work: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
        """Return ``work`` of each item; raise the error of the first item that failed."""
        chosen = list(items)
        if len(chosen) < 2:
            return [work(item) for item in chosen]
        return list(self._pool.map(work, chosen))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def call_batch(
    call: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any]],
    entries: Sequence[Mapping[str, Any]],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, EntryFailure]:
    """Make a batch call and return the failed entries by id.

    Args:
        call: Takes entries with an ``Id`` each; returns ``Successful`` and ``Failed``.
    """
    failures: dict[str, EntryFailure] = {}
    waiting = list(entries)
    for attempt in range(_MAX_ATTEMPTS):
        failed = _failed(waiting, call(waiting))
        retryable = {key for key, entry in failed.items() if _is_retryable(entry)}
        failures |= {key: _failure(failed[key]) for key in failed.keys() - retryable}
        waiting = [entry for entry in waiting if entry["Id"] in retryable]
        if not waiting:
            return failures
        if attempt + 1 < _MAX_ATTEMPTS:
            sleep(_INITIAL_BACKOFF * 2**attempt * random.uniform(0.5, 1.0))
    return failures | {entry["Id"]: _failure(failed[entry["Id"]]) for entry in waiting}


def _failed(entries: Sequence[Mapping[str, Any]], response: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the entries without success, by id; an entry missing from the response may have succeeded."""
    done = {entry["Id"] for entry in response.get("Successful") or ()}
    reported = {entry["Id"]: entry for entry in response.get("Failed") or ()}
    # The SDK returns a response that it cannot parse as an empty one.
    unknown = {"Code": "NoAnswer", "Message": "no result for this entry in the response", "SenderFault": False}
    return {entry["Id"]: reported.get(entry["Id"], unknown) for entry in entries if entry["Id"] not in done}


def _code(entry: Mapping[str, Any]) -> str:
    return str(entry.get("Code", "Unknown")).removeprefix("AWS.SimpleQueueService.")


def _is_retryable(entry: Mapping[str, Any]) -> bool:
    return not entry.get("SenderFault", False) or is_transient_code(_code(entry))


def _failure(entry: Mapping[str, Any]) -> EntryFailure:
    return EntryFailure(code=_code(entry), message=str(entry.get("Message") or ""), transient=_is_retryable(entry))
