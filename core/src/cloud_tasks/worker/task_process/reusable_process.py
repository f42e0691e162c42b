"""Task processes that run several attempts each (``--reuse-processes``), assigned and reported over a socket.

Invariants, each with a test:

1. Each attempt starts in the program's working folder; its output and its report are its own.
2. A process ends when its connection is closed, after its last attempt, or when a task exits it.
3. Functions of the standard library that a task replaces, such as its clocks, change nothing here: what runs after a
   task is imported by name.
"""

from __future__ import annotations

from os import _exit, chdir, close, fstat, getcwd, getpid
from sys import modules
from time import monotonic
from typing import Any, NoReturn

from cloud_tasks.worker.common.ipc import Channel, ChannelClosedError
from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.task_process.assignment import Assignment, ResultLimits
from cloud_tasks.worker.task_process.exception_report import note_outputs, report_problem
from cloud_tasks.worker.task_process.function_call import Function, call_function
from cloud_tasks.worker.task_process.output_capture import take_output
from cloud_tasks.worker.task_process.process_end import EXIT_TIMEOUT, end_interpreter, end_process
from cloud_tasks.worker.task_process.process_setup import reseed_numpy, set_up
from cloud_tasks.worker.task_process.report_format import encode_report
from cloud_tasks.worker.task_process.result_file import (
    SMALL_RESULT,
    open_result_file,
    own_failure_report,
    print_failure,
    write_all,
)
from cloud_tasks.worker.task_process.runner import end_forked_child, flush_output

__all__ = ["reject_assignment", "run_attempts", "run_many"]


def run_attempts(
    function: Function,
    data: WorkerData,
    *,
    parent: int,
    end: Channel,
    output: int | None,
    limits: ResultLimits,
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
        _exit(70)


def run_many(
    function: Function,
    data: WorkerData,
    *,
    end: Channel,
    limits: ResultLimits,
    count: int,
    is_spawned: bool = False,
) -> NoReturn:
    """Run up to ``count`` assignments that arrive on ``end``, report each there, and exit. Never returns."""
    code = 70
    assignment: Assignment | None = None
    try:
        note_outputs()
        folder = _current_folder()
        captures = fstat(1).st_nlink == 0
        messages: list[Any] = []
        # A library that freezes time replaces the names of modules, too.
        pid, clock = getpid(), monotonic
        for _ in range(count):
            while not messages:
                messages = end.get()
                messages.reverse()
            assignment = Assignment(*messages.pop())
            data._scratch_is_used = False
            start = clock()
            head, content = call_function(function, data, assignment, limits)
            seconds = clock() - start
            code = head.get("exit_code", 0)
            flush_output()
            # The function, its result or a stream of the task may have forked.
            if getpid() != pid:
                end_forked_child(code, is_spawned=is_spawned)
            if "exited" in head:
                break
            _return_to(folder)
            tail = take_output(is_wanted="error" in head or data._keeps_output) if captures else b""
            report = encode_report(head, content)
            _send_report(end, (assignment.number, seconds, data._scratch_is_used, tail), report)
    except ChannelClosedError as error:
        code, number = 0, getattr(error.__cause__, "errno", None)
        if assignment is not None and number:
            data._flags.set_report_error(assignment.slot, assignment.number, number)
    except BaseException as error:
        print_failure("cannot report the result", error)
    finally:
        try:
            timeout = getattr(data, "max_runtime", EXIT_TIMEOUT)
            (end_interpreter if is_spawned else end_process)(code, thread_timeout=timeout)
            flush_output()
        finally:
            _exit(code)


def _current_folder() -> str:
    try:
        return getcwd()
    except FileNotFoundError:
        return "."


def _return_to(folder: str) -> None:
    """Make a folder the current one again, unless it is gone."""
    try:
        chdir(folder)
    except OSError:
        return


def _send_report(end: Channel, fields: tuple[Any, ...], content: bytes) -> None:
    if len(content) > SMALL_RESULT:
        try:
            descriptor = open_result_file()
            write_all(descriptor, content)
            end.put_with_descriptor((*fields, None), descriptor)
            close(descriptor)
            return
        except OSError as error:
            content = encode_report(report_problem("cannot report the result", error), b"")
    end.put((*fields, content))
    end.flush()


def reject_assignment(end: Channel, what: str, error: BaseException) -> None:
    """Print, and report about the first assignment that arrives, that our own code cannot run it."""
    print_failure(what, error)
    try:
        while not (messages := end.get()):
            continue
        end.put((messages[0][0], 0.0, False, b"", own_failure_report(what, error)))
        end.flush()
    except ChannelClosedError:
        return
