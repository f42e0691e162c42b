"""Call of the task's function: what it returned or raised, as head and JSON of a report.

Invariants, each with a test:

1. Whatever the function raises or returns, this module raises nothing.
2. A result that is plain JSON is reported as it is; any other one is passed to `result_encoding`.
3. What a process that the task has forked raises is printed there and gives its exit code; `runner` ends it.

Every successful task passes `call_function`: see `runner` for what that means.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from json import JSONEncoder, loads
from os import environ, getpid
from sys import getrecursionlimit
from typing import Any

from cloud_tasks.compact_json import compact_encoder
from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.task_process.assignment import Assignment, ResultLimits
from cloud_tasks.worker.task_process.exception_report import MAX_RECURSION, exception_head

__all__ = ["Function", "call_function"]

_encode_result = compact_encoder(allow_nan=False)
_SCALARS = frozenset({str, int, float, bool, type(None)})
_TEXT = frozenset({str})
_SHORT = 256
"""Characters of JSON that cannot have more than `_MAX_BRACKETS` levels, nor a number of 1,000 digits."""
_MAX_BRACKETS = 200
"""Brackets up to which JSON is within the bound of depth for certain: `cloud_tasks.sanitize.MAX_DEPTH`."""
_BLOCK = 500
"""A number of 1,000 digits contains a whole block of so many characters."""

Function = Callable[[str, dict[str, Any], WorkerData], Any]


def call_function(
    function: Function, data: WorkerData, assignment: Assignment, limits: ResultLimits
) -> tuple[dict[str, Any], bytes]:
    """Call the function for an assignment; return the head of its report, empty for a plain result, and the JSON."""
    pid = getpid()
    try:
        data._task_id = assignment.task_id
        data.attempt = assignment.attempt
        data.slot = assignment.slot
        data._scratch = assignment.scratch
        if assignment.environment:
            environ.update(assignment.environment)
        payload: Any = assignment.payload
        task_data = loads(payload).get("data", {}) if type(payload) is bytes else payload
        returned = function(assignment.task_id, task_data, data)
    except BaseException as error:
        return exception_head(error, is_fork=getpid() != pid, output=assignment.output), b""
    retry, value, text = False, returned, ""
    if type(returned) is tuple and len(returned) == 2:
        first = returned[0]
        # NumPy has a boolean type of its own.
        if first is False or first is True or _is_numpy_bool(type(first)):
            retry, value = bool(first), returned[1]
    try:
        # The C encoder would exceed the stack within a higher limit that the task has set.
        text = _encode_result(value) if getrecursionlimit() <= MAX_RECURSION else ""
        if "\\ud" in text:
            # Raises an error if it has surrogates, two of which would be read as another character.
            JSONEncoder(ensure_ascii=False).encode(value).encode()
        if not text or (type(value) not in _SCALARS and _is_ambiguous(value)):
            text = ""
        elif not retry and (limits[0] is None or len(text) <= limits[0]) and (len(text) <= _SHORT or _is_flat(text)):
            return {}, text.encode()
    except BaseException:
        # Only this one result is affected: the next step is conversion.
        text = ""
    from cloud_tasks.worker.task_process.result_encoding import report_result

    return report_result(value, text, assignment, limits, retry=retry)


def _is_numpy_bool(kind: type) -> bool:
    return kind.__name__ in ("bool", "bool_") and kind.__module__ == "numpy"


def _is_ambiguous(value: Any) -> bool:
    """Return whether JSON is not all of a value: keys that are not plain text may be equal, classes may have fields."""
    waiting = [value]
    for container in waiting:
        entries: Collection[Any] = container if isinstance(container, (list, tuple)) else ()
        if isinstance(container, dict):
            if not _TEXT.issuperset(map(type, container)):
                return True
            entries = container.values()
        kinds = {type(container), *map(type, entries)} - _SCALARS
        if any(hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__") for kind in kinds):
            return True
        if any(issubclass(kind, (dict, list, tuple)) for kind in kinds):
            waiting += [entry for entry in entries if isinstance(entry, (dict, list, tuple))]
    return False


def _is_flat(text: str) -> bool:
    """Return whether JSON is certainly within the bounds of `cloud_tasks.sanitize` for depth and digits."""
    if text.count("[") + text.count("{") > _MAX_BRACKETS:
        return False
    return not any(text[start : start + _BLOCK].isdigit() for start in range(0, len(text), _BLOCK))
