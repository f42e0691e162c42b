"""Tasks of code that core does not know: a task factory, an object of a program, or a task source of a plugin.

Invariant, with a test: whatever that code raises or yields instead of a valid task is an `InputError` of one line.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cloud_tasks.builtin.sources.task_from_entry import task_from_entry
from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.model import Task
from cloud_tasks.sanitize import clean_text

__all__ = ["ForeignSource", "checked_tasks", "failures", "open_foreign"]

_MAX_CAUSE = 500


@contextmanager
def failures(problem: Callable[[], str], where: str) -> Iterator[None]:
    """Raise an `InputError` for whatever the code within the context raises, except an error of this program.

    Args:
        problem: Returns the message, to be followed by the exception: ``the task factory raised``.
    """
    try:
        yield
    except (CloudTasksError, GeneratorExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise InputError(f"{problem()} {_describe(error)}", where=where) from error


def _describe(error: BaseException) -> str:
    try:
        text = clean_text(" ".join(str(error).split()), _MAX_CAUSE)
    except BaseException:
        text = "its message cannot be shown"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def checked_tasks(answer: Any, author: str, where: str, *, only_tasks: bool = False) -> Iterator[Task]:
    """Yield the tasks of an iterable.

    Args:
        only_tasks: Whether an entry must be a `Task`; else it may be a dictionary as in a file.

    Raises:
        InputError: An entry is not a valid task, or the code raised anything.
    """
    if inspect.isawaitable(answer) or inspect.isasyncgen(answer):
        raise InputError(f"{author} is asynchronous", where=where, hint="use a plain generator function")
    number = 0
    with failures(lambda: f"after task {number}, {author} raised", where):
        if isinstance(answer, (dict, str)):
            raise TypeError(f"expected a list or generator of tasks, got {type(answer).__name__}")
        for number, entry in enumerate(answer, start=1):
            if only_tasks and not isinstance(entry, Task):
                raise InputError(f"task {number}: {author} gave a {type(entry).__name__}, not a Task", where=where)
            yield task_from_entry(entry, number, lambda: where)


class ForeignSource:
    """A task source of a plugin or of a program, with its tasks checked."""

    def __init__(self, source: Any, author: str, where: str) -> None:
        self._source = source
        self._author = author
        self.where = where

    def __iter__(self) -> Iterator[Task]:
        return checked_tasks(self._source, self._author, self.where, only_tasks=True)

    def expected_length(self) -> int | None:
        with failures(lambda: f"expected_length of {self._author} raised", self.where):
            length = self._source.expected_length()
            if length is not None and (type(length) is not int or length < 0):
                raise TypeError(f"expected a number of tasks or None, got {length!r}")
            return length

    def place(self) -> str:
        """Return the place of the task that was read last, where the source says it."""
        with contextlib.suppress(Exception):
            if isinstance(found := self._source.place(), str) and found:
                return clean_text(found)
        return self.where


@contextmanager
def open_foreign(open_source: Callable[[], Any], author: str, where: str) -> Iterator[ForeignSource]:
    """Open a task source of a plugin, and yield it with its tasks checked.

    Args:
        open_source: Returns a context manager, as `TaskSourceBackend.open` does.

    Raises:
        InputError: It cannot be opened or closed; or as `checked_tasks`, while iterating.
    """
    stack = contextlib.ExitStack()
    with failures(lambda: f"{author} cannot be opened:", where):
        source = stack.enter_context(open_source())
    with contextlib.suppress(Exception):
        if isinstance(named := source.where, str) and named:
            where = clean_text(named)
    try:
        yield ForeignSource(source, author, where)
    except BaseException:
        # An error while closing does not hide this one.
        with contextlib.suppress(Exception, SystemExit):
            stack.__exit__(*sys.exc_info())
        raise
    with failures(lambda: f"{author} cannot be closed:", where):
        stack.close()
