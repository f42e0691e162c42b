"""Task runner: runs attempts inside a task process, from the fork to the exit.

The result file is an anonymous file that the fork server opened, so that a result of any size needs no reader. It
holds the report: the length of the head (8 bytes), the head (JSON) and the result (JSON), written once. A process that
exits without a report has not returned from the task's function.

Invariants, each with a test:

1. Whatever the function does (raises, exits, returns a value that JSON cannot express, closes every descriptor), this
   process exits, and its report is complete or missing.
2. A result that JSON cannot express, or that is too long, fails its task with a message.
3. The report is complete before this process waits for threads or exit functions, which cannot change it.

A forked process takes some microseconds for each page of memory that it is the first to write to, and each call of a
function and each lookup of a module's name writes to several pages (reference counts, caches). Therefore a successful
task passes few functions, and their callees are imported by name.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from gc import get_objects
from os import SEEK_CUR, _exit, dup2, getppid, lseek, pwrite, read
from sys import byteorder, modules
from typing import Any, NoReturn

from cloud_tasks.compact_json import compact_encoder
from cloud_tasks.errors import Retry
from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.common.ipc import Channel, ChannelClosedError
from cloud_tasks.worker.common.memfd import anonymous_file
from cloud_tasks.worker.common.private_api import exit_function_count, thread_count
from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.task_process.assignment import Assignment
from cloud_tasks.worker.task_process.exception_report import describe, failure, text_of
from cloud_tasks.worker.task_process.output_capture import take_output
from cloud_tasks.worker.task_process.process_end import (
    EXIT_TIMEOUT,
    changeable,
    end_interpreter,
    end_process,
    inherited_files,
    unchanged,
)
from cloud_tasks.worker.task_process.process_setup import reseed_numpy, set_up

__all__ = [
    "HEAD_LENGTH",
    "SMALL_RESULT",
    "open_result_file",
    "run_attempt",
    "run_attempts",
    "run_many",
    "run_one",
    "warm_up",
]

HEAD_LENGTH = 8
SMALL_RESULT = 32 * 1024
"""Bytes up to which a report is part of the message about the attempt's end."""
_encode_result = compact_encoder(allow_nan=False)
_encode_head = compact_encoder(default=str)
_WARM_UP_RUNS = 20
"""More runs than the interpreter needs to specialise instructions (8 in CPython 3.11)."""
_RESULT_FILE_NAME = "cloud-tasks-result"
_RESULT_FILE_MARK = 0x5EED_0FC7_A5C5
"""Offset of a result file, which distinguishes it from another file that got the same descriptor."""

_EMPTY_HEAD = (2).to_bytes(HEAD_LENGTH, "little") + b"{}"
"""Length and JSON of an empty head."""

Function = Callable[[str, dict[str, Any], WorkerData], Any]


def open_result_file() -> int:
    """Return the descriptor of a new result file."""
    descriptor = anonymous_file(_RESULT_FILE_NAME)
    os.lseek(descriptor, _RESULT_FILE_MARK, os.SEEK_SET)
    return descriptor


def warm_up(limits: tuple[int | None, str | None]) -> None:
    """Run an empty attempt several times in the process that forks the task processes.

    Symbols are then bound, and caches filled, once instead of in each forked process.
    """
    assignment, data = Assignment(0, 0, "", 1, {}, "", {}), WorkerData.__new__(WorkerData)
    result = open_result_file()
    for _ in range(_WARM_UP_RUNS):
        _, content = _call(lambda task_id, task, data: (False, ""), data, assignment, limits)
        _flush(sys.stdout)
        _flush(sys.stderr)
        lseek(result, 0, SEEK_CUR)
        pwrite(result, _EMPTY_HEAD + content, 0)
        if exit_function_count() or changeable != unchanged:
            len(get_objects())
        getppid()
        dup2(result, result)
    os.close(result)


def run_attempt(
    function: Function,
    data: WorkerData,
    assignment: Assignment,
    *,
    parent: int,
    result: int,
    output: int | None,
    limits: tuple[int | None, str | None],
    gate: tuple[int, Sequence[dict[str, str]]] | None = None,
) -> NoReturn:
    """Run the assignment in a freshly forked process and exit. Never returns.

    Args:
        parent: Pid of the fork server.
        result: Descriptor of the result file.
        output: Descriptor for standard output and error; None for those of the worker.
        limits: Maximum bytes of a result, and the folder or URL for longer ones; None for no limit, no store.
        gate: For a pre-forked child: the eventfd to which one more than the slot is written, and the environment of
            each slot; None to start at once.
    """
    try:
        set_up(parent, output)
        if gate is not None:
            _pass_gate(assignment, *gate)
        if "numpy.random" in modules:
            reseed_numpy()
        run_one(function, data, assignment, result=result, limits=limits)
    finally:
        _exit(70)


def _pass_gate(assignment: Assignment, gate: int, environments: Sequence[dict[str, str]]) -> None:
    assignment.slot = int.from_bytes(read(gate, 8), byteorder) - 1
    assignment.environment = environments[assignment.slot]
    os.close(gate)


def run_one(
    function: Function,
    data: WorkerData,
    assignment: Assignment,
    *,
    result: int,
    limits: tuple[int | None, str | None],
    is_spawned: bool = False,
) -> NoReturn:
    """Run the assignment and exit. Never returns. For the arguments see `run_attempt`."""
    code = 70
    try:
        before = len(get_objects())
        head, content = _call(function, data, assignment, limits)
        code = head.get("exit_code", 0) & 0xFF if head else 0
        _flush(sys.stdout)
        _flush(sys.stderr)
        # The function may have closed the file and opened another one with the same descriptor.
        if lseek(result, 0, SEEK_CUR) != _RESULT_FILE_MARK:
            raise OSError("the result file was replaced")
        report = _encoded(head, content) if head else _EMPTY_HEAD + content
        if pwrite(result, report, 0) < len(report):
            _write_all(result, report)
        if is_spawned:
            end_interpreter(code)
        for file in inherited_files:
            _flush(file)
        if (
            exit_function_count()
            or ("threading" in modules and thread_count())
            or changeable != unchanged
            or len(get_objects()) > before + 1
        ):
            end_process(code)
            _flush(sys.stdout)
            _flush(sys.stderr)
    except BaseException as error:
        _print_failure(error)
    finally:
        process_tree.leave(code)


def run_attempts(
    function: Function,
    data: WorkerData,
    *,
    parent: int,
    end: Channel,
    output: int | None,
    limits: tuple[int | None, str | None],
    count: int,
) -> NoReturn:
    """Call `run_many` in a freshly forked process. For ``parent`` and ``output`` see `run_attempt`."""
    try:
        set_up(parent, output)
        if "numpy.random" in modules:
            reseed_numpy()
        run_many(function, data, end=end, limits=limits, count=count)
    finally:
        os._exit(70)


def run_many(
    function: Function,
    data: WorkerData,
    *,
    end: Channel,
    limits: tuple[int | None, str | None],
    count: int,
    is_spawned: bool = False,
) -> NoReturn:
    """Run up to ``count`` assignments that arrive on ``end``, report each there, and exit. Never returns."""
    code = 70
    try:
        folder = _current_folder()
        captures = os.fstat(1).st_nlink == 0
        messages: list[Any] = []
        for _ in range(count):
            while not messages:
                messages = end.get()
                messages.reverse()
            assignment = Assignment(*messages.pop())
            data._scratch_is_used = False
            start = time.monotonic()
            head, content = _call(function, data, assignment, limits)
            seconds = time.monotonic() - start
            _flush(sys.stdout)
            _flush(sys.stderr)
            code = head.get("exit_code", 0) & 0xFF
            if "exited" in head:
                break
            _return_to(folder)
            tail = take_output(is_wanted="error" in head) if captures else b""
            report = _encoded(head, content) if head else _EMPTY_HEAD + content
            _send_report(end, (assignment.number, seconds, data._scratch_is_used, tail), report)
    except ChannelClosedError:
        code = 0
    except BaseException as error:
        _print_failure(error)
    finally:
        try:
            timeout = getattr(data, "max_runtime", EXIT_TIMEOUT)
            (end_interpreter if is_spawned else end_process)(code, thread_timeout=timeout)
            _flush(sys.stdout)
            _flush(sys.stderr)
        finally:
            os._exit(code)


def _current_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return os.curdir


def _return_to(folder: str) -> None:
    """Make a folder the current one again, unless it is gone."""
    try:
        os.chdir(folder)
    except OSError:
        return


def _send_report(end: Channel, fields: tuple[Any, ...], content: bytes) -> None:
    if len(content) <= SMALL_RESULT:
        end.put((*fields, content))
        end.flush()
        return
    descriptor = open_result_file()
    _write_all(descriptor, content)
    end.put_with_descriptor((*fields, None), descriptor)
    os.close(descriptor)


def _call(
    function: Function, data: WorkerData, assignment: Assignment, limits: tuple[int | None, str | None]
) -> tuple[dict[str, Any], bytes]:
    try:
        data._task_id = assignment.task_id
        data.attempt = assignment.attempt
        data.slot = assignment.slot
        data._scratch = assignment.scratch
        if assignment.environment:
            os.environ.update(assignment.environment)
        payload: Any = assignment.payload
        task_data = json.loads(payload).get("data", {}) if type(payload) is bytes else payload
        returned = function(assignment.task_id, task_data, data)
    except Retry as request:
        after = request.after
        return {"retry": True, "reason": text_of(request.reason), "after": None if after is None else float(after)}, b""
    except SystemExit as request:
        return _exit_request(request)
    except BaseException as error:
        return failure(error), b""
    retry, value = False, returned
    if isinstance(returned, tuple) and len(returned) == 2:
        first = returned[0]
        # NumPy has a boolean type of its own.
        if first is False or first is True or type(first).__name__ in ("bool", "bool_"):
            retry, value = bool(first), returned[1]
    try:
        content = _encode_result(value).encode()
    except BaseException as error:
        return {
            "error": "UnserializableResult",
            "message": f"the result cannot be encoded as JSON: {describe(error)}",
        }, b""
    limit, store = limits
    if limit is not None and len(content) > limit:
        return _too_long(content, limit, store, assignment, {"retry": retry})
    return {"retry": True} if retry else {}, content


def _too_long(
    content: bytes, limit: int, store: str | None, assignment: Assignment, head: dict[str, Any]
) -> tuple[dict[str, Any], bytes]:
    if store is None:
        message = (
            f"the result has {len(content):,} bytes; the limit is {limit:,}; raise max_result_bytes or set result_store"
        )
        return {"error": "ResultTooLong", "message": message}, b""
    try:
        from cloud_tasks.worker.task_process.result_store import store_result

        address = store_result(store, assignment.task_id, assignment.attempt, content)
    except BaseException as error:
        message = f"cannot store the result of {len(content):,} bytes in {store}: {describe(error)}"
        return {"error": "ResultNotStored", "message": message}, b""
    head["result_address"] = address
    head["result_bytes"] = len(content)
    return head, b"null"


def _exit_request(request: SystemExit) -> tuple[dict[str, Any], bytes]:
    """Return the head for `sys.exit` in the function: the process exits as the interpreter would."""
    if request.code is None or isinstance(request.code, int):
        return {"exited": True, "exit_code": request.code or 0}, b""
    sys.stderr.write(f"{request.code}\n")
    return {"exited": True, "exit_code": 1}, b""


def _flush(stream: Any) -> None:
    try:
        stream.flush()
    except (OSError, ValueError, AttributeError):
        return


def _encoded(head: dict[str, Any], content: bytes) -> bytes:
    encoded = _encode_head(head).encode("utf-8", "replace")
    return b"".join((len(encoded).to_bytes(HEAD_LENGTH, "little"), encoded, content))


def _write_all(descriptor: int, content: bytes) -> None:
    written = os.pwrite(descriptor, content, 0)
    while written < len(content):
        written += os.pwrite(descriptor, memoryview(content)[written:], written)


def _print_failure(error: BaseException) -> None:
    try:
        os.write(2, f"cannot report the result: {describe(error)}\n".encode("utf-8", "replace"))
    except OSError:
        return
