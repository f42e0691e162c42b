"""Execution of code of plugins while they are discovered, such that it harms nothing else.

Invariants, each with a test:

1. Whatever the code raises is a `BrokenPluginError` with its cause: also an exit, an exception without a text, and a
   `KeyboardInterrupt` that is no Ctrl-C.
2. Standard output has nothing of it: what it prints, in Python or by a child process, goes to standard error.
3. Standard streams, the current folder and the handler of Ctrl-C are afterwards as before; code that closes a standard
   stream is broken.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from cloud_tasks.sanitize import clean_text

__all__ = ["BrokenPluginError", "isolated"]

_STREAMS = ("stdin", "stdout", "stderr")
_MAX_CAUSE = 500


class BrokenPluginError(Exception):
    """The cause why a plugin is broken, as text of one line."""


@contextlib.contextmanager
def isolated(stage: str) -> Iterator[None]:
    """Run code of a plugin.

    Args:
        stage: ``import`` or ``registration``, for the message.

    Raises:
        BrokenPluginError: The code raised anything, or closed a standard stream.
        KeyboardInterrupt: The user pressed Ctrl-C.
    """
    interrupted: list[int] = []
    problem: str | None = None
    with _streams_kept() as has_closed, _interrupts_noted(interrupted):
        try:
            yield
        except BaseException as error:
            if interrupted:
                raise
            problem = _cause(stage, error)
        closed = has_closed()
    if problem is None and closed:
        problem = f"{stage} failed: closed {closed}"
    if problem is not None:
        raise BrokenPluginError(problem)


def _cause(stage: str, error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except BaseException:
        text = "its message cannot be shown"
    return f"{stage} failed: {type(error).__name__}: {clean_text(text, _MAX_CAUSE) or 'no message'}"


@contextlib.contextmanager
def _streams_kept() -> Iterator[Any]:
    """Point standard output to standard error, and restore both afterwards. Yield a test for closed ones."""
    streams = {name: getattr(sys, name) for name in _STREAMS}
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()
    saved = {number: _copy(number) for number in range(3)}
    folder = _open_folder()
    if saved[1] is not None and saved[2] is not None:
        os.dup2(2, 1)
    # A library may keep these, so they are not closed afterwards, and write to the descriptor.
    given: dict[str, Any] = {
        name: _open(source, mode) if saved[source] is not None else None
        for name, source, mode in (("stdin", 0, "r"), ("stdout", 2, "w"), ("stderr", 2, "w"))
    }
    for name, stream in given.items():
        setattr(sys, name, stream)

    def closed() -> str:
        return " and ".join(f"sys.{name}" for name, stream in given.items() if stream is not None and stream.closed)

    try:
        yield closed
    finally:
        with contextlib.suppress(ValueError, OSError, AttributeError):
            given["stdout"].flush()
            given["stderr"].flush()
        for name, stream in streams.items():
            setattr(sys, name, stream)
        for number, copy in saved.items():
            if copy is not None:
                os.dup2(copy, number)
                os.close(copy)
        if folder is not None:
            with contextlib.suppress(OSError):
                os.fchdir(folder)
            os.close(folder)


def _open(descriptor: int, mode: str) -> Any:
    return open(descriptor, mode, buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _copy(descriptor: int) -> int | None:
    with contextlib.suppress(OSError):
        return os.dup(descriptor)
    return None


def _open_folder() -> int | None:
    with contextlib.suppress(OSError):
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return None


@contextlib.contextmanager
def _interrupts_noted(interrupted: list[int]) -> Iterator[None]:
    """Note a Ctrl-C, which raises as always."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return

    def note(number: int, frame: Any) -> None:
        interrupted.append(number)
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
