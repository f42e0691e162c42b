"""Task runner: runs attempts inside a task process, from the fork to the exit.

The result file is an anonymous file that the fork server opened, so that a result of any size needs no reader. It
holds the report: the length of the head (8 bytes), the head (JSON) and the result (JSON), written once. A process that
exits without a report has not returned from the task's function.

Invariants, each with a test:

1. Whatever the function does (raises, exits, returns a value that JSON cannot express, closes every descriptor), this
   process exits, and its report is complete or missing.
2. A result that is plain JSON is reported as it is; any other one is passed to `result_encoding`.
3. The report is complete before this process waits for threads or exit functions, which cannot change it.
4. A process that the task has forked, and that leaves the function, reports nothing and ends as any Python process.
5. What a task does to its process, its streams or its limits is no failure of our own means.

A forked process takes some microseconds for each page of memory that it is the first to write to, and each call of a
function and each lookup of a module's name writes to several pages (reference counts, caches). Therefore a successful
task passes few functions, and their callees are imported by name.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from gc import get_objects
from os import SEEK_CUR, _exit, dup2, getpid, getppid, lseek, pwrite, read
from sys import byteorder, modules
from typing import Any, NoReturn

from cloud_tasks.compact_json import compact_encoder
from cloud_tasks.errors import Retry
from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.common.ipc import Channel, ChannelClosedError
from cloud_tasks.worker.common.memfd import GUARDED_OFFSETS, anonymous_file, guard_offset
from cloud_tasks.worker.common.private_api import exit_function_count, thread_count
from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.task_process.assignment import Assignment
from cloud_tasks.worker.task_process.exception_report import (
    describe,
    failure,
    own_failure,
    report_problem,
    retry_request,
)
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
from cloud_tasks.worker.task_process.report_format import NO_HEAD, SIZE_LENGTH, encode_report

__all__ = [
    "REACHED",
    "SMALL_RESULT",
    "open_result_file",
    "own_failure_report",
    "reject_assignment",
    "report_own_failure",
    "run_attempt",
    "run_attempts",
    "run_many",
    "run_one",
    "warm_up",
]

SMALL_RESULT = 32 * 1024
"""Bytes up to which a report is part of the message about the attempt's end."""
_encode_result = compact_encoder(allow_nan=False)
# In JSON: a key that may not have been text, so that two may be one; half of a surrogate pair, or what looks like it.
_has_odd_key = re.compile(r'"(?=[-0-9tfn])(?:-?\d[\d.e+-]*+|true|false|null)":').search
_has_lone_surrogate = re.compile(r"\\\\ud|\\ud[89ab]..(?!\\ud[c-f])|(?<!\\ud[89ab]..)\\ud[c-f]").search
_SHORT = 400
"""Characters of JSON that cannot have more than `_MAX_BRACKETS` levels, nor a number of 1,000 digits."""
_MAX_BRACKETS = 200
"""Brackets up to which JSON is within the bound of depth for certain: `cloud_tasks.sanitize.MAX_DEPTH`."""
_BLOCK = 500
"""A number of 1,000 digits contains a whole block of so many characters."""
_WARM_UP_RUNS = 20
"""More runs than the interpreter needs to specialise instructions (8 in CPython 3.11)."""
_RESULT_FILE_NAME = "cloud-tasks-result"

REACHED = b"\1"
"""Content of the result file of a fresh interpreter from the time at which the program has reached its worker."""

Function = Callable[[str, dict[str, Any], WorkerData], Any]


def open_result_file() -> int:
    """Return the descriptor of a new result file."""
    descriptor = anonymous_file(_RESULT_FILE_NAME)
    guard_offset(descriptor)
    return descriptor


def warm_up(limits: tuple[int | None, str | None]) -> None:
    """Run an empty attempt several times in the process that forks the task processes.

    Symbols are then bound, and caches filled, once instead of in each forked process.
    """
    assignment, data = Assignment(0, 0, "", 1, {}, "", {}), WorkerData.__new__(WorkerData)
    result = open_result_file()
    for _ in range(_WARM_UP_RUNS):
        _, content = _call(lambda task_id, task, data: (False, ""), data, assignment, limits)
        _flush_output()
        lseek(result, 0, SEEK_CUR)
        pwrite(result, len(content).to_bytes(SIZE_LENGTH, "little") + NO_HEAD + content, 0)
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
    except BaseException as error:
        report_own_failure(result, "cannot start the task", error)
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
    code, report = 70, b""
    try:
        before = len(get_objects())
        head, content = _call(function, data, assignment, limits)
        code = head.get("exit_code", 0) if head else 0
        if head and "forked" in head:
            _end_forked_child(code, is_spawned=is_spawned)
        _flush_output()
        report = (
            encode_report(head, content) if head else len(content).to_bytes(SIZE_LENGTH, "little") + NO_HEAD + content
        )
        # The function may have closed the file and opened another one with the same descriptor.
        if lseek(result, 0, SEEK_CUR) not in GUARDED_OFFSETS:
            raise OSError("the task has replaced a file of its worker")
        if pwrite(result, report, 0) < len(report):
            _write_all(result, report)
        # Complete: what the process does from now on cannot change it.
        result = -1
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
            _flush_output()
    except BaseException as error:
        _report_again(result, report, error)
    finally:
        process_tree.leave(code)


def _end_forked_child(code: int, *, is_spawned: bool) -> NoReturn:
    """End a process that the task has forked and that has left the function, as the interpreter ends a process."""
    try:
        _flush_output()
        (end_interpreter if is_spawned else end_process)(code)
        _flush_output()
    finally:
        os._exit(code)


def _report_again(result: int, report: bytes, error: BaseException) -> None:
    """Report a result, or why that is impossible, after a first attempt; do nothing for a complete report (-1)."""
    what = "cannot report the result"
    if result == -1:
        _print_failure("cannot end the process", error)
        return
    with contextlib.suppress(OSError):
        if report and lseek(result, 0, SEEK_CUR) in GUARDED_OFFSETS:
            _write_all(result, report)
            return
    _print_failure(what, error)
    _rewrite(result, encode_report(report_problem(what, error), b""))


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
    except BaseException as error:
        reject_assignment(end, "cannot start the task", error)
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
        pid = getpid()
        for _ in range(count):
            while not messages:
                messages = end.get()
                messages.reverse()
            assignment = Assignment(*messages.pop())
            data._scratch_is_used = False
            start = time.monotonic()
            head, content = _call(function, data, assignment, limits)
            seconds = time.monotonic() - start
            code = head.get("exit_code", 0)
            if "forked" in head:
                _end_forked_child(code, is_spawned=is_spawned)
            _flush_output()
            if getpid() != pid:
                # A stream of the task forks.
                _end_forked_child(code, is_spawned=is_spawned)
            if "exited" in head:
                break
            _return_to(folder)
            tail = take_output(is_wanted="error" in head or data._keeps_output) if captures else b""
            report = encode_report(head, content)
            _send_report(end, (assignment.number, seconds, data._scratch_is_used, tail), report)
    except ChannelClosedError:
        code = 0
    except BaseException as error:
        _print_failure("cannot report the result", error)
    finally:
        try:
            timeout = getattr(data, "max_runtime", EXIT_TIMEOUT)
            (end_interpreter if is_spawned else end_process)(code, thread_timeout=timeout)
            _flush_output()
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
    if len(content) > SMALL_RESULT:
        try:
            descriptor = open_result_file()
            _write_all(descriptor, content)
            end.put_with_descriptor((*fields, None), descriptor)
            os.close(descriptor)
            return
        except OSError as error:
            content = encode_report(report_problem("cannot report the result", error), b"")
    end.put((*fields, content))
    end.flush()


def _call(
    function: Function, data: WorkerData, assignment: Assignment, limits: tuple[int | None, str | None]
) -> tuple[dict[str, Any], bytes]:
    pid = getpid()
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
    except BaseException as error:
        return _raised(error, is_fork=getpid() != pid), b""
    if getpid() != pid:
        return {"forked": True}, b""
    retry, value, text = False, returned, ""
    if type(returned) is tuple and len(returned) == 2:
        first = returned[0]
        # NumPy has a boolean type of its own.
        if first is False or first is True or _is_numpy_bool(type(first)):
            retry, value = bool(first), returned[1]
    try:
        text = _encode_result(value)
        if _has_odd_key(text) or ("\\ud" in text and _has_lone_surrogate(text)):
            text = ""
        elif not retry and (limits[0] is None or len(text) <= limits[0]) and (len(text) <= _SHORT or _is_flat(text)):
            return {}, text.encode()
    except BaseException:
        # Only this one result is affected: the next step is conversion.
        text = ""
    from cloud_tasks.worker.task_process.result_encoding import report_result

    head, content = report_result(value, text, assignment, limits, retry=retry)
    return (head, content) if getpid() == pid else ({"forked": True}, b"")


def _is_numpy_bool(kind: type) -> bool:
    return kind.__name__ in ("bool", "bool_") and kind.__module__ == "numpy"


def _is_flat(text: str) -> bool:
    """Return whether JSON is certainly within the bounds of `cloud_tasks.sanitize` for depth and digits."""
    if text.count("[") + text.count("{") > _MAX_BRACKETS:
        return False
    return not any(text[start : start + _BLOCK].isdigit() for start in range(0, len(text), _BLOCK))


def _raised(error: Any, *, is_fork: bool) -> dict[str, Any]:
    """Return the head for what the function raised, in the task's process or in a fork of that."""
    if issubclass(type(error), SystemExit):
        head = _exit_request(error)
    elif issubclass(type(error), Retry) and not is_fork:
        head = retry_request(error)
    else:
        head = failure(error)
    return {"forked": True, "exit_code": head.get("exit_code", 1)} if is_fork else head


def _exit_request(request: Any) -> dict[str, Any]:
    """Return the head for `sys.exit` in the function: the process exits as the interpreter would."""
    try:
        code = request.code
    except BaseException:
        # A property of a subclass.
        code = 1
    if code is None or issubclass(type(code), int):
        number = int.__int__(code or 0)
        return {"exited": True, "exit_code": number & 0xFF if abs(number) <= sys.maxsize else 0xFF}
    # The exit code stays, whatever has become of the output.
    with contextlib.suppress(BaseException):
        sys.stderr.write(f"{code}\n")
    return {"exited": True, "exit_code": 1}


def _flush_output() -> None:
    """Flush the standard streams, which may be objects of the task."""
    try:
        sys.stdout.flush()
    except BaseException:
        _flush(sys.__stdout__)
    try:
        sys.stderr.flush()
    except BaseException:
        return


def _flush(file: Any) -> None:
    try:
        file.flush()
    except BaseException:
        return


def _write_all(descriptor: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        try:
            written += pwrite(descriptor, memoryview(content)[written:], written)
        except OSError as error:
            if error.errno != errno.EFBIG or not _lift_file_size_limit():
                raise


def _lift_file_size_limit() -> bool:
    """Lift the limit that the task has set to the size of its files; return False if there is none to be lifted."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (resource.RLIM_INFINITY, hard):
        if soft != limit:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                return True
    return False


def own_failure_report(what: str, error: BaseException) -> bytes:
    """Return the report of an attempt that our own code could not run."""
    return encode_report(own_failure(what, error), b"")


def report_own_failure(result: int, what: str, error: BaseException) -> None:
    """Print, and report in the result file, that our own code could not run an attempt."""
    _print_failure(what, error)
    _rewrite(result, own_failure_report(what, error))


def _rewrite(result: int, report: bytes) -> None:
    try:
        if lseek(result, 0, SEEK_CUR) in GUARDED_OFFSETS:
            # An empty file would mean that a fresh interpreter has not reached its worker.
            os.ftruncate(result, len(REACHED))
            _write_all(result, report)
    except OSError:
        return


def reject_assignment(end: Channel, what: str, error: BaseException) -> None:
    """Print, and report about the first assignment that arrives, that our own code cannot run it."""
    _print_failure(what, error)
    try:
        while not (messages := end.get()):
            continue
        end.put((messages[0][0], 0.0, False, b"", own_failure_report(what, error)))
        end.flush()
    except ChannelClosedError:
        return


def _print_failure(what: str, error: BaseException) -> None:
    try:
        os.write(2, f"{what}: {describe(error)}\n".encode("utf-8", "replace"))
    except OSError:
        return
