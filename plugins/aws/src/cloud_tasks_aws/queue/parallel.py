"""Calls of ten entries each, many at a time, in which each entry succeeds or fails by itself.

Invariants, each with a test:

1. An entry that failed for a passing reason is tried again; the others of its call are not.
2. What failed for good is told with its code; nothing is swallowed, and silence is not success.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import attrs

from cloud_tasks_aws.failures import is_passing

__all__ = ["EntryFailure", "Threads", "carry_out"]

_T = TypeVar("_T")
_R = TypeVar("_R")
_TRIES = 4
_FIRST_PAUSE = 0.2


@attrs.frozen(kw_only=True)
class EntryFailure:
    """Why one entry of a call had no effect."""

    code: str
    message: str
    transient: bool


class Threads:
    """A pool that starts when the first piece of work has company."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self.count = count

    def map(self, work: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
        """Do ``work`` for each, in the caller's thread where there is but one. Raises what the first of them raised."""
        chosen = list(items)
        if len(chosen) < 2:
            return [work(item) for item in chosen]
        return list(self._pool.map(work, chosen))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def carry_out(
    call: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any]],
    entries: Sequence[Mapping[str, Any]],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, EntryFailure]:
    """Make a batch call; returns the entries that failed, by their ids.

    Args:
        call: Takes entries with an ``Id`` each; answers with ``Successful`` and ``Failed``.
    """
    failures: dict[str, EntryFailure] = {}
    waiting = list(entries)
    for attempt in range(_TRIES):
        failed = _failed(waiting, call(waiting))
        passing = {key for key, entry in failed.items() if _passes(entry)}
        failures |= {key: _failure(failed[key]) for key in failed.keys() - passing}
        waiting = [entry for entry in waiting if entry["Id"] in passing]
        if not waiting:
            return failures
        if attempt + 1 < _TRIES:
            sleep(_FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.0))
    return failures | {entry["Id"]: _failure(failed[entry["Id"]]) for entry in waiting}


def _failed(entries: Sequence[Mapping[str, Any]], answer: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The entries that had no effect, by their ids; one that the answer does not speak of may have had one."""
    done = {entry["Id"] for entry in answer.get("Successful") or ()}
    told = {entry["Id"]: entry for entry in answer.get("Failed") or ()}
    # The SDK takes an answer that it cannot read for an empty one.
    unknown = {"Code": "NoAnswer", "Message": "the answer does not speak of this entry", "SenderFault": False}
    return {entry["Id"]: told.get(entry["Id"], unknown) for entry in entries if entry["Id"] not in done}


def _code(entry: Mapping[str, Any]) -> str:
    return str(entry.get("Code", "Unknown")).removeprefix("AWS.SimpleQueueService.")


def _passes(entry: Mapping[str, Any]) -> bool:
    return not entry.get("SenderFault", False) or is_passing(_code(entry))


def _failure(entry: Mapping[str, Any]) -> EntryFailure:
    return EntryFailure(code=_code(entry), message=str(entry.get("Message") or ""), transient=_passes(entry))
