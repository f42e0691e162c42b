"""One attempt of a task, in its own process: from the fork to the last word.

The result channel is an anonymous file that the template opened: a result of any size fits without a reader. It
holds, once and whole: the length of the head (8 bytes), the head (JSON), the result (JSON). What ends before writing
it has not returned.

Invariants, each with a test:

1. Whatever the function does (raises, exits, returns something that is no JSON, closes every descriptor), this
   process ends, and what it says is either whole or nothing.
2. A result that cannot be expressed or is too long is this task's failure, and says so.

A forked process pays some microseconds for each page of memory that it is the first to write to, and calling a
function, or looking a name up in a module, writes to several (reference counts, caches). Therefore few functions lie
on the way of a task that succeeds, and what they call is imported by name.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from os import SEEK_CUR, _exit, dup2, getppid, lseek, pwrite, read
from sys import byteorder, modules
from typing import Any, NoReturn

from cloud_tasks.compact_json import compact_encoder
from cloud_tasks.errors import Retry
from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.common.ipc import Channel, ChannelClosedError
from cloud_tasks.worker.common.memfd import nameless_file
from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.task_process.exception_report import describe, failure, text_of
from cloud_tasks.worker.task_process.output_capture import take_output

__all__ = [
    "HEAD_LENGTH",
    "SMALL_RESULT",
    "Assignment",
    "open_channel",
    "rehearse",
    "restore_signals",
    "run_attempt",
    "run_attempts",
    "run_many",
    "run_one",
    "settle",
]

# The function beneath `signal.signal`, whose enumerations cost a forked process a tenth of a millisecond.
_set_signal: Any = modules["_signal"].signal
_set_wakeup_fd, _interrupt = signal.set_wakeup_fd, signal.default_int_handler
_SIG_DFL, _SIG_IGN = int(signal.SIG_DFL), int(signal.SIG_IGN)
_SIGCHLD, _SIGHUP, _SIGINT = int(signal.SIGCHLD), int(signal.SIGHUP), int(signal.SIGINT)
_SIGPIPE, _SIGTERM = int(signal.SIGPIPE), int(signal.SIGTERM)

HEAD_LENGTH = 8
SMALL_RESULT = 32 * 1024
"""Bytes up to which a task's report travels in the message that says it has ended."""
_encode_result = compact_encoder(allow_nan=False)
_encode_head = compact_encoder(default=str)
_REHEARSALS = 20
"""More than it takes for the interpreter to specialise instructions (8 in CPython 3.11)."""
_CHANNEL_NAME = "cloud-tasks-result"
_CHANNEL_MARK = 0x5EED_0FC7_A5C5
"""Where a result channel's offset stands: by this it is told from a file that has taken its number."""

_PLAIN = (2).to_bytes(HEAD_LENGTH, "little") + b"{}"
"""What comes before the result where there is nothing to say of it."""

Function = Callable[[str, dict[str, Any], WorkerData], Any]


class Assignment:
    """What one process is to do."""

    __slots__ = ("attempt", "environment", "number", "payload", "scratch", "slot", "task_id")

    def __init__(
        self,
        number: int,
        slot: int,
        task_id: str,
        attempt: int,
        payload: dict[str, Any] | bytes,
        scratch: str,
        environment: dict[str, str],
    ) -> None:
        self.number = number
        self.slot = slot
        self.task_id = task_id
        self.attempt = attempt
        self.payload = payload
        """The task's data, or JSON with the member ``data``."""
        self.scratch = scratch
        self.environment = environment

    def fields(self) -> tuple[Any, ...]:
        """What makes another like it."""
        return (self.number, self.slot, self.task_id, self.attempt, self.payload, self.scratch, self.environment)


def open_channel() -> int:
    """An anonymous file that one attempt may report through."""
    descriptor = nameless_file(_CHANNEL_NAME)
    os.lseek(descriptor, _CHANNEL_MARK, os.SEEK_SET)
    return descriptor


def rehearse(limits: tuple[int | None, str | None]) -> None:
    """Go the way of an attempt where it does no harm, in the process that forks them.

    What is done here for the first time (symbols bound, caches filled) is not done anew in each forked process.
    """
    nothing, nobody = Assignment(0, 0, "", 1, {}, "", {}), WorkerData.__new__(WorkerData)
    result = open_channel()
    for _ in range(_REHEARSALS):
        _, content = _outcome(lambda task_id, task, data: (False, ""), nobody, nothing, limits)
        _flush(sys.stdout)
        _flush(sys.stderr)
        lseek(result, 0, SEEK_CUR)
        pwrite(result, _PLAIN + content, 0)
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
    """Do it in a process that was forked for it, and end that; never returns.

    Args:
        parent: The template's pid.
        result: The descriptor of the result channel.
        output: Where standard output and error go; None: where the worker's go.
        limits: The most bytes of a result, and where longer ones are stored (a URL); None: no limit, no store.
        gate: An eventfd that will tell one more than the slot, and the environment of each slot's tasks; None: it
            begins at once, as the assignment says.
    """
    try:
        settle(parent, output)
        if gate is not None:
            _pass_gate(assignment, *gate)
        if "numpy.random" in modules:
            _draw_anew()
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
) -> NoReturn:
    """Do it and end this process; arguments as those of `run_attempt`."""
    code = 70
    try:
        head, content = _outcome(function, data, assignment, limits)
        code = head.pop("exit_code", 0) if head else 0
        _flush(sys.stdout)
        _flush(sys.stderr)
        if not head or "exited" not in head:
            # The function may have closed the channel, and may have something of its own under this number now.
            if lseek(result, 0, SEEK_CUR) != _CHANNEL_MARK:
                raise OSError("the result channel was replaced")
            report = _encoded(head, content) if head else _PLAIN + content
            if pwrite(result, report, 0) < len(report):
                _write_all(result, report)
    except BaseException as error:
        _last_words(error)
    finally:
        process_tree.leave(code & 0xFF)


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
    """As `run_many`, in a process that was forked for it; ``parent`` and ``output`` as for `run_attempt`."""
    try:
        settle(parent, output)
        if "numpy.random" in modules:
            _draw_anew()
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
) -> NoReturn:
    """Do up to ``count`` assignments that come over ``end``, reporting each there, and end this process."""
    code = 70
    try:
        captures = os.fstat(1).st_nlink == 0
        messages: list[Any] = []
        for _ in range(count):
            while not messages:
                messages = end.get()
                messages.reverse()
            assignment = Assignment(*messages.pop())
            data._scratch_is_used = False
            began = time.monotonic()
            head, content = _outcome(function, data, assignment, limits)
            seconds = time.monotonic() - began
            _flush(sys.stdout)
            _flush(sys.stderr)
            code = head.pop("exit_code", 0)
            if "exited" in head:
                break
            tail = take_output(is_wanted="error" in head) if captures else b""
            report = _encoded(head, content) if head else _PLAIN + content
            _hand_over(end, (assignment.number, seconds, data._scratch_is_used, tail), report)
    except ChannelClosedError:
        code = 0
    except BaseException as error:
        _last_words(error)
    finally:
        os._exit(code & 0xFF)


def _hand_over(end: Channel, facts: tuple[Any, ...], content: bytes) -> None:
    if len(content) <= SMALL_RESULT:
        end.put((*facts, content))
        end.flush()
        return
    descriptor = open_channel()
    _write_all(descriptor, content)
    end.put_with_descriptor((*facts, None), descriptor)
    os.close(descriptor)


def settle(parent: int, output: int | None) -> None:
    """Become the head of a session whose every process ends with this one."""
    process_tree.head_tree()
    if getppid() != parent:
        _exit(70)
    restore_signals()
    if output is not None:
        dup2(output, 1)
        dup2(output, 2)


def restore_signals() -> None:
    """Whatever the program or the template did to signals, tasks have them as Python starts with."""
    _set_wakeup_fd(-1)
    _set_signal(_SIGCHLD, _SIG_DFL)
    _set_signal(_SIGTERM, _SIG_DFL)
    _set_signal(_SIGHUP, _SIG_DFL)
    _set_signal(_SIGINT, _interrupt)
    _set_signal(_SIGPIPE, _SIG_IGN)


def _draw_anew() -> None:
    # Python reseeds `random` in a forked process, NumPy does not: each task would draw the same numbers.
    modules["numpy.random"].seed()


def _outcome(
    function: Function, data: WorkerData, assignment: Assignment, limits: tuple[int | None, str | None]
) -> tuple[dict[str, Any], bytes]:
    try:
        data.attempt = assignment.attempt
        data.slot = assignment.slot
        data._scratch = assignment.scratch
        if assignment.environment:
            os.environ.update(assignment.environment)
        payload: Any = assignment.payload
        task_data = json.loads(payload).get("data", {}) if type(payload) is bytes else payload
        answer = function(assignment.task_id, task_data, data)
        if "threading" in modules:
            _join_threads()
    except Retry as request:
        after = request.after
        return {"retry": True, "reason": text_of(request.reason), "after": None if after is None else float(after)}, b""
    except SystemExit as request:
        return _exit_request(request)
    except BaseException as error:
        return failure(error), b""
    retry, value = False, answer
    if isinstance(answer, tuple) and len(answer) == 2:
        first = answer[0]
        # NumPy has a bool of its own.
        if first is False or first is True or type(first).__name__ in ("bool", "bool_"):
            retry, value = bool(first), answer[1]
    try:
        content = _encode_result(value).encode()
    except BaseException as error:
        return {"error": "UnserializableResult", "message": f"the result is no JSON: {describe(error)}"}, b""
    limit, store = limits
    if limit is not None and len(content) > limit:
        return _too_long(content, limit, store, assignment, {"retry": retry})
    return {"retry": True} if retry else {}, content


def _too_long(
    content: bytes, limit: int, store: str | None, assignment: Assignment, head: dict[str, Any]
) -> tuple[dict[str, Any], bytes]:
    if store is None:
        message = (
            f"the result has {len(content)} bytes, {limit} are allowed; raise max_result_bytes or set result_store"
        )
        return {"error": "ResultTooLong", "message": message}, b""
    try:
        from cloud_tasks.worker.task_process.result_store import store_result

        address = store_result(store, assignment.task_id, assignment.attempt, content)
    except BaseException as error:
        message = f"the result of {len(content)} bytes could not be stored in {store}: {describe(error)}"
        return {"error": "ResultNotStored", "message": message}, b""
    head["result_address"] = address
    head["result_bytes"] = len(content)
    return head, b"null"


def _exit_request(request: SystemExit) -> tuple[dict[str, Any], bytes]:
    """`sys.exit` in the function: the process ends as the interpreter would end it."""
    if request.code is None or isinstance(request.code, int):
        return {"exited": True, "exit_code": request.code or 0}, b""
    sys.stderr.write(f"{request.code}\n")
    return {"exited": True, "exit_code": 1}, b""


def _join_threads() -> None:
    """Wait for the threads that the function left, as the interpreter does at its end."""
    threading = modules["threading"]
    if threading.active_count() > 1:
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()


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


def _last_words(error: BaseException) -> None:
    try:
        os.write(2, f"the result could not be reported: {describe(error)}\n".encode("utf-8", "replace"))
    except OSError:
        return
