"""What an event log says was done before: for ``--resume`` and ``--retry-failed``. Eight bytes of memory per task."""

from __future__ import annotations

import hashlib
import json
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence

from cloud_tasks.errors import InputError

__all__ = ["wanted_tasks"]

_FAILURES = frozenset({"task_exception", "task_exited", "task_timed_out", "task_dead"})


def wanted_tasks(path: str, *, spooled: Sequence[str] = (), retry_failed: bool) -> Callable[[str], bool]:
    """Says of a task id whether it is to be run.

    Args:
        path: The event log; a line that is cut or no event is passed over.
        spooled: Files with events that are still to be added to it.
        retry_failed: Only what failed for good and was not completed since; else everything that was not completed.

    Raises:
        InputError: The log cannot be read.
    """
    completed, failed = array("Q"), array("Q")
    try:
        for name in (*spooled, path):
            with open(name, "rb") as file:
                for line in file:
                    _note(line, completed, failed)
    except FileNotFoundError:
        if retry_failed and not spooled:
            raise InputError("there is no event log", where=path, hint="run without --retry-failed first") from None
    except OSError as error:
        raise InputError(f"the event log cannot be read: {error.strerror}", where=path) from error
    done, broken = _sorted(completed), _sorted(failed)
    if retry_failed:
        return lambda task_id: _holds(broken, _key(task_id)) and not _holds(done, _key(task_id))
    return lambda task_id: not _holds(done, _key(task_id))


def _note(line: bytes, completed: array[int], failed: array[int]) -> None:
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


def _holds(keys: array[int], key: int) -> bool:
    place = bisect_left(keys, key)
    return place < len(keys) and keys[place] == key
