"""Task runner: runs an attempt inside a task process, from the fork to the exit.

The report is written to the result file once: `report_format`, `result_file`. A process that exits without a report has
not returned from the task's function.

Invariants, each with a test:

1. Whatever the function does (raises, exits, returns a value that JSON cannot express, closes every descriptor), this
   process exits, and its report is complete or missing.
2. The report is complete before this process waits for threads or exit functions, which cannot change it.
3. A process that the task has forked, and that leaves the function, reports nothing and ends as any Python process.

A forked process takes some microseconds for each page of memory that it is the first to write to, and each call of a
function and each lookup of a module's name writes to several pages (reference counts, caches). Therefore a successful
task passes few functions, their callees are imported by name, and arguments take the place of attributes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from gc import get_objects
from os import SEEK_CUR, _exit, close, dup2, getpid, getppid, lseek, pwrite, read
from sys import byteorder, modules
from typing import Any, NoReturn

from cloud_tasks.worker.common.memfd import GUARDED_OFFSETS
from cloud_tasks.worker.common.private_api import exit_function_count, thread_count
from cloud_tasks.worker.common.process_tree import leave
from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.task_process.assignment import Assignment, ResultLimits
from cloud_tasks.worker.task_process.function_call import Function, call_function
from cloud_tasks.worker.task_process.process_end import (
    changeable,
    end_interpreter,
    end_process,
    inherited_files,
    unchanged,
)
from cloud_tasks.worker.task_process.process_setup import reseed_numpy, set_up
from cloud_tasks.worker.task_process.report_format import NO_HEAD, SIZE_LENGTH, encode_report
from cloud_tasks.worker.task_process.result_file import open_result_file, report_again, report_own_failure, write_all

__all__ = ["end_forked_child", "flush_output", "run_attempt", "run_one", "warm_up"]

_WARM_UP_RUNS = 20
"""More runs than the interpreter needs to specialise instructions (8 in CPython 3.11)."""


def warm_up(data: WorkerData, limits: ResultLimits) -> None:
    """Run an empty attempt several times in the process that forks the task processes.

    Symbols are then bound, and caches filled, once instead of in each forked process.

    Args:
        data: Has the attributes of no attempt afterwards.
    """
    assignment = Assignment(0, 0, "", 0, {}, "", {})
    result = open_result_file()
    for _ in range(_WARM_UP_RUNS):
        _, content = call_function(lambda task_id, task, data: (False, ""), data, assignment, limits)
        flush_output()
        lseek(result, 0, SEEK_CUR)
        pwrite(result, len(content).to_bytes(SIZE_LENGTH, "little") + NO_HEAD + content, 0)
        if exit_function_count() or changeable != unchanged:
            len(get_objects())
        getppid()
        dup2(result, result)
    close(result)
    data.slot = None


def run_attempt(
    function: Function,
    data: WorkerData,
    assignment: Assignment,
    limits: ResultLimits,
    parent: int,
    result: int,
    output: int | None,
    foreign: Iterable[int],
    gate: int | None,
    environments: Sequence[dict[str, str]],
) -> NoReturn:
    """Run the assignment in a freshly forked process and exit. Never returns.

    Args:
        parent: Pid of the fork server.
        result: Descriptor of the result file.
        output: Descriptor for standard output and error; None for those of the worker.
        foreign: Descriptors of the fork server and of other attempts, to be closed.
        gate: For a pre-forked child: the eventfd to which one more than the slot is written; None to start at once.
        environments: Additional environment variables of each slot.
    """
    try:
        for descriptor in foreign:
            close(descriptor)
        set_up(parent, output)
        if gate is not None:
            assignment.slot = int.from_bytes(read(gate, 8), byteorder) - 1
            assignment.environment = environments[assignment.slot]
            close(gate)
        if "numpy.random" in modules:
            reseed_numpy()
        run_one(function, data, assignment, result=result, limits=limits)
    except BaseException as error:
        report_own_failure(result, "cannot start the task", error)
    finally:
        _exit(70)


def run_one(
    function: Function,
    data: WorkerData,
    assignment: Assignment,
    *,
    result: int,
    limits: ResultLimits,
    is_spawned: bool = False,
) -> NoReturn:
    """Run the assignment and exit. Never returns. For the arguments see `run_attempt`."""
    code, report, pid = 70, b"", getpid()
    try:
        before = len(get_objects())
        head, content = call_function(function, data, assignment, limits)
        code = head.get("exit_code", 0) if head else 0
        flush_output()
        # The function, its result or a stream of the task may have forked.
        if getpid() != pid:
            end_forked_child(code, is_spawned=is_spawned)
        report = (
            encode_report(head, content) if head else len(content).to_bytes(SIZE_LENGTH, "little") + NO_HEAD + content
        )
        # The function may have closed the file and opened another one with the same descriptor.
        if lseek(result, 0, SEEK_CUR) not in GUARDED_OFFSETS:
            raise OSError("the task has replaced a file of its worker")
        if pwrite(result, report, 0) < len(report):
            write_all(result, report)
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
            flush_output()
    except BaseException as error:
        if getpid() != pid:
            end_forked_child(code, is_spawned=is_spawned)
        report_again(result, report, error, data._flags, assignment.slot, assignment.number)
    finally:
        leave(code)


def end_forked_child(code: int, *, is_spawned: bool) -> NoReturn:
    """End a process that the task has forked and that has left the function, as the interpreter ends a process."""
    try:
        flush_output()
        (end_interpreter if is_spawned else end_process)(code)
        flush_output()
    finally:
        _exit(code)


def flush_output() -> None:
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
