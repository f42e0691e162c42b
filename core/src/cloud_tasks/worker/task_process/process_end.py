"""End of a task process: what the interpreter does when a process ends, and `os._exit` leaves out.

A forked process has a copy of its program's exit functions, finalizers, open files and child processes, whose end is
the program's own; only what the task has added is ended. A spawned process ends as a whole.

Invariants, each with a test:

1. Exit functions, finalizers and files of the program are ended once, by the program.
2. A task process ends, whatever threads and exit functions do: threads have until ``max_runtime``, then exit functions
   and files have 30 seconds.
3. Data that the program had buffered before the fork is written once.

Every task process has this module in memory, so its imports are light.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from gc import get_objects, get_referents
from os import _exit, write
from signal import SIG_DFL, SIG_UNBLOCK, SIGALRM, alarm, pthread_sigmask, signal
from time import monotonic, sleep
from types import FunctionType
from typing import Any, NoReturn

from cloud_tasks.worker.common.private_api import (
    end_threads,
    exit_function_count,
    exit_interpreter,
    forget_exit_functions,
    log_handlers,
    run_exit_functions,
    start_thread,
    thread_count,
)

__all__ = [
    "EXIT_TIMEOUT",
    "changeable",
    "end_interpreter",
    "end_process",
    "flush_files",
    "forget_files",
    "inherited_files",
    "own_from_now_on",
    "unchanged",
]

EXIT_TIMEOUT = 30.0
"""Seconds that exit functions and files have."""
_ALARM_DELAY = 2
"""Seconds after which the system ends a process that does not end itself, because a library holds the interpreter."""
_BASE: type[Any] = io.IOBase.__mro__[1]
"""Base of all files, without the slow checks of abstract classes."""
_BUFFERED = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)

inherited_files: list[Any] = []
"""Files and handlers of the program that may hold data which the task has written."""
changeable: list[Any] = []
"""Containers that hold an entry for each thing to be ended."""
unchanged: list[Any] = []
"""Copies of their contents before the task."""
_deadline = float("inf")


def flush_files() -> None:
    """Flush all open files and buffering log handlers, and remember them. Call before a fork."""
    standard = {*map(id, _standard_streams())}
    found = [each for each in get_objects() if type(each) in _BUFFERED and id(each) not in standard]
    # A text file first, then the buffer that it writes to.
    found.sort(key=lambda each: _BUFFERED.index(type(each)))
    found[:0] = [handler for handler in log_handlers() if hasattr(handler, "buffer")]
    inherited_files[:] = [each for each in found if _flush(each)]


def forget_files() -> None:
    """Forget the files that `flush_files` has found, so that they can be closed."""
    inherited_files.clear()


def own_from_now_on() -> None:
    """Make what is registered or opened from now on, here or in forked processes, that of the task."""
    changeable[:] = forget_exit_functions()
    unchanged[:] = [container.copy() for container in changeable]


def end_process(code: int, *, thread_timeout: float | None = None) -> None:
    """End threads, exit functions and files that a task has left in a forked process; the caller then exits.

    Args:
        code: Exit code, if that takes too long.
        thread_timeout: Seconds that threads have; None if the supervisor limits the time.
    """
    if not (inherited_files or exit_function_count() or thread_count() or changeable != unchanged or _unfinished()):
        return
    if thread_timeout is not None:
        _limit(code, thread_timeout)
    end_threads()
    _limit(code, EXIT_TIMEOUT)
    run_exit_functions(unchanged[-1] if unchanged else [])
    for each in inherited_files:
        _flush(each)
    for each in _unfinished():
        try:
            each.close() if issubclass(type(each), _BASE) else type(each).__del__(each)
        except BaseException as error:
            _print(f"cannot close {type(each).__name__}: {type(error).__name__}: {error}")


def end_interpreter(code: int, *, thread_timeout: float | None = None) -> NoReturn:
    """End this process, which is no fork of the program, as the interpreter does. For arguments see `end_process`."""
    try:
        end_process(code, thread_timeout=thread_timeout)
        exit_interpreter(code)
    finally:
        _exit(code)


def _unfinished() -> list[Any]:
    """Return the files, and the objects with a finalizer written in Python, that the task has created.

    A file that another one writes to comes after that.
    """
    standard = {*map(id, _standard_streams())}
    ends: dict[type[Any], bool] = {}
    found: list[Any] = []
    for each in get_objects():
        kind = type(each)
        if kind not in ends:
            ends[kind] = issubclass(kind, _BASE) or type(getattr(kind, "__del__", None)) is FunctionType
        if ends[kind] and id(each) not in standard:
            found.append(each)
    inner: set[int] = set()
    for each in found:
        for part in get_referents(each):
            inner.update(map(id, get_referents(part) if type(part) is dict else (part,)))
    found.sort(key=lambda each: id(each) in inner)
    return found


def _standard_streams() -> Iterator[Any]:
    for stream in (sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__):
        buffer = getattr(stream, "buffer", None)
        yield from (stream, buffer, getattr(buffer, "raw", None))


def _flush(file: Any) -> bool:
    """Flush a file; return False if it is closed or cannot be written."""
    try:
        if isinstance(file, io.IOBase) and (file.closed or not file.writable()):
            return False
        file.flush()
    except BaseException as error:
        _print(f"cannot write the data of {file!r}: {type(error).__name__}: {error}")
    return True


def _limit(code: int, seconds: float) -> None:
    """Exit with a code after so many seconds; a second call replaces the limit of the first."""
    global _deadline
    is_first = _deadline == float("inf")
    _deadline = monotonic() + seconds
    signal(SIGALRM, SIG_DFL)
    pthread_sigmask(SIG_UNBLOCK, (SIGALRM,))
    alarm(int(min(seconds, 1e8)) + _ALARM_DELAY)
    if is_first:
        try:
            start_thread(_exit_late, (code,))
        except RuntimeError:
            return


def _exit_late(code: int) -> None:
    while (left := _deadline - monotonic()) > 0:
        sleep(min(left, 1e6))
    _print("threads or exit functions of the task took too long and were ended")
    _exit(code & 0xFF)


def _print(text: str) -> None:
    try:
        write(2, f"{text}\n".encode("utf-8", "replace"))
    except OSError:
        return
