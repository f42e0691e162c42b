"""Results that are not plain JSON of a moderate size: converted, pickled, stored or kept on disk.

The task runner loads this module only when such a result occurs, so it imports the light part of the standard library.

Invariants, each with a test:

1. A value that can be converted or pickled is not lost: it is in the report, in the result store, or in a file that
   the failure names.
2. Exceptions of the value's own code (conversion, pickling, representation) do not leave this module.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from cloud_tasks.worker.task_process.assignment import Assignment, ResultLimits
from cloud_tasks.worker.task_process.exception_report import bounded_recursion, describe
from cloud_tasks.worker.task_process.result_conversion import (
    NotJsonError,
    RefusedResultError,
    convert,
    encode,
    is_within_bounds,
    short_repr,
    type_name,
)

__all__ = ["report_result"]

_PICKLE_PROTOCOL = 5
_PICKLE_DEPTH = 5000
"""Recursion limit while pickling."""
_FREE_PART = 20
"""A result is kept on disk only if one part in so many of the disk remains free."""
_KEPT_NAME = 40
"""Characters of the task's id in the name of a file that is kept."""
_MAX_REASON = 300
_CONVERSIONS = 5
"""Conversions of a result that changes meanwhile."""
_CHANGED = " during iteration"
"""Text of Python's errors about a container that changes while it is read."""
_PAIR = "returned (True, …), which requests a retry"


def report_result(
    value: Any, text: str, assignment: Assignment, limits: ResultLimits, *, retry: bool
) -> tuple[dict[str, Any], bytes]:
    """Return head and JSON of the report of a returned value.

    Args:
        text: The value as JSON, perhaps too deep or with a number of too many digits; empty if it has to be converted.
        retry: Whether the function requested a retry, by a pair whose second member is the value.
    """
    with bounded_recursion():
        return _report_result(value, text, assignment, limits, retry)


def _report_result(
    value: Any, text: str, assignment: Assignment, limits: ResultLimits, retry: bool
) -> tuple[dict[str, Any], bytes]:
    if text and not is_within_bounds(value, text):
        text = ""
    if retry:
        return _retry_request(value, text, limits)
    head: dict[str, Any] = {}
    try:
        content = text.encode() if text else _converted(value)
    except RefusedResultError as error:
        return _failure("UnserializableResult", str(error), value, b"", assignment)
    except BaseException as error:
        content, head = _pickled(value, error)
    if "result_repr" in head:
        return head, b"null"
    if not _exceeds(content, limits, is_pickle=bool(head)):
        if not head:
            return head, content
        import base64

        return {**head, "result_pickle": base64.b64encode(content).decode()}, b"null"
    return _store(value, content, head, assignment, limits)


def _retry_request(value: Any, text: str, limits: ResultLimits) -> tuple[dict[str, Any], bytes]:
    """Return the report of a pair that requests a retry; its value is only a reason, so it is shortened at will."""
    head = {
        "retry": True,
        "reason": _PAIR,
        "notice": ("pair", f"{_PAIR}; if True is part of the result, use Worker(…, returns='value')"),
    }
    try:
        content = text.encode() if text else _converted(value)
        if not _exceeds(content, limits):
            return head, content
    except BaseException:
        content = b""
    return head, encode(short_repr(value)).encode()


def _exceeds(content: bytes, limits: ResultLimits, *, is_pickle: bool = False) -> bool:
    size = (len(content) + 2) // 3 * 4 if is_pickle else len(content)
    return limits[0] is not None and size > limits[0]


def _converted(value: Any) -> bytes:
    """Return the JSON of a value, after a few attempts if another thread changes it meanwhile."""
    for _ in range(_CONVERSIONS - 1):
        try:
            return encode(convert(value)).encode()
        except RuntimeError as error:
            if not _has_changed(error):
                raise
    return encode(convert(value)).encode()


def _has_changed(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and _CHANGED in str(error)


def _pickled(value: Any, reason: BaseException) -> tuple[bytes, dict[str, Any]]:
    """Return a pickle and the head that describes it; a head with ``result_repr`` if the value cannot be pickled."""
    import pickle

    kind = type_name(value)
    why = str(reason) if isinstance(reason, NotJsonError) else describe(reason)[:_MAX_REASON]
    has_changed = _has_changed(reason)
    head: dict[str, Any] = {"result_type": kind}
    depth = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(max(depth, _PICKLE_DEPTH))
        content = pickle.dumps(value, protocol=_PICKLE_PROTOCOL)
    except BaseException as error:
        cause = describe(error)[:_MAX_REASON]
        problem = f"changed during its conversion ({why})" if has_changed else f"has no JSON form ({why})"
        warning = f"the result {problem} and cannot be pickled ({cause}); its text is kept"
        return b"", {**head, "result_repr": short_repr(value), "warning": warning, "notice": (f"text {kind}", warning)}
    finally:
        sys.setrecursionlimit(depth)
    head["result_bytes"] = len(content)
    problem = (
        f"another thread changed it during its conversion: {why}" if has_changed else f"it has no JSON form: {why}"
    )
    head["notice"] = (f"pickled {kind}", f"the result of type {kind} is pickled, since {problem}")
    return content, head


def _store(
    value: Any, content: bytes, head: dict[str, Any], assignment: Assignment, limits: ResultLimits
) -> tuple[dict[str, Any], bytes]:
    """Write a result over the limit to the result store."""
    limit, store = limits
    if store is None:
        message = (
            f"the result has {len(content):,} bytes; the limit is {limit:,} (max_result_bytes); "
            "set result_store for longer results"
        )
        return _failure("ResultTooLong", message, value, content, assignment, is_pickle=bool(head))
    try:
        from cloud_tasks.worker.task_process.result_store import store_result

        suffix = "pickle" if head else "json"
        address = store_result(store, assignment.task_id, assignment.attempt, content, suffix)
    except BaseException as error:
        message = f"cannot store the result of {len(content):,} bytes in {store} (result_store): {describe(error)}"
        return _failure("ResultNotStored", message, value, content, assignment, is_pickle=bool(head))
    return {**head, "result_address": address, "result_bytes": len(content)}, b"null"


def _failure(
    kind: str, message: str, value: Any, content: bytes, assignment: Assignment, *, is_pickle: bool = True
) -> tuple[dict[str, Any], bytes]:
    """Return the report of a result that cannot be reported; keep the value on this instance's disk."""
    try:
        path = _keep(content or _pickled(value, ValueError())[0], "pickle" if is_pickle else "json", assignment)
        kept = f"the value is kept in {path} on {os.uname().nodename}" if path else ""
    except BaseException as error:
        kept = f"the value could not be kept: {describe(error)}"
    # On a line of its own: the first line is the reason by which failures are grouped.
    return {
        "error": kind,
        "message": f"{message}\n{kept}" if kept else message,
        "notice": (kind, f"{message}; {kept}" if kept else message),
    }, b""


def _keep(content: bytes, suffix: str, assignment: Assignment) -> str:
    """Write a result into a folder that outlives the worker; return its path, empty for no content.

    Raises:
        OSError: The disk is nearly full, or the file cannot be written.
    """
    if not content:
        return ""
    import io

    from cloud_tasks.escape import file_name
    from cloud_tasks.worker.common.private_folder import create_private_folder
    from cloud_tasks.worker.task_process.result_store import store_file

    folder = f"{os.path.dirname(assignment.scratch) or 'cloud-tasks'}-results"
    create_private_folder(folder)
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize - len(content) < disk.f_blocks * disk.f_frsize // _FREE_PART:
        raise OSError(f"the disk of {folder} is nearly full")
    # The number makes the name unique in the folder of this worker, so the id can be cut.
    name = f"{file_name(assignment.task_id)[:_KEPT_NAME]}.{assignment.number}.{suffix}"
    path = os.path.join(os.path.abspath(folder), name)
    store_file(path, io.BytesIO(content))
    return path
