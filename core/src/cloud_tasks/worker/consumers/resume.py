"""Selection of tasks by an event log, for ``--resume`` and ``--retry-failed``. Uses eight bytes of memory per task."""

from __future__ import annotations

import hashlib
import json
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence

from cloud_tasks.errors import InputError

__all__ = ["select_tasks"]

_FAILURES = frozenset({"task_exception", "task_exited", "task_timed_out", "task_dead"})


def select_tasks(path: str, *, spooled: Sequence[str] = (), retry_failed: bool) -> Callable[[str], bool]:
    """Return a function that returns whether to run the task of an id.

    Args:
        path: The event log; lines that are truncated or not events are ignored.
        spooled: Files with events that are not in the log yet.
        retry_failed: Whether to select only tasks whose last attempt failed; else all that were not completed.

    Raises:
        InputError: The log cannot be read.
    """
    completed, failed = array("Q"), array("Q")
    try:
        for name in (*spooled, path):
            with open(name, "rb") as file:
                for line in file:
                    _collect(line, completed, failed)
    except FileNotFoundError:
        if retry_failed and not spooled:
            raise InputError("event log not found", where=path, hint="run once without --retry-failed") from None
    except OSError as error:
        raise InputError(f"cannot read the event log: {error.strerror}", where=path) from error
    done, unsuccessful = _sorted(completed), _sorted(failed)
    if retry_failed:
        return lambda task_id: _contains(unsuccessful, _key(task_id)) and not _contains(done, _key(task_id))
    return lambda task_id: not _contains(done, _key(task_id))


def _collect(line: bytes, completed: array[int], failed: array[int]) -> None:
    try:
        event = json.loads(line)
        kind, task_id = event["event_type"], event.get("task_id")
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    if not isinstance(task_id, str) or event.get("retry"):
        return
    if kind == "task_completed":
        completed.append(_key(task_id))
    elif kind in _FAILURES:
        failed.append(_key(task_id))


def _key(task_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(task_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _sorted(keys: array[int]) -> array[int]:
    return array("Q", sorted(keys))


def _contains(keys: array[int], key: int) -> bool:
    index = bisect_left(keys, key)
    return index < len(keys) and keys[index] == key
