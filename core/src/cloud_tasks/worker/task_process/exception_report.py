"""Report of an exception in a task. Every task process has this module in memory, so its imports are light.

Invariants, each with a test:

1. The report of an exception is complete, wherever its traceback cannot be printed.
2. Data that our own code refuses is reported by its error, without a traceback.
3. An exception that our own means caused (the output of the task, its scratch folder) is reported as such, with the
   system's error; any other is the task's own. Output that the task has redirected is not ours.
4. Only regular files of a moderate size are read for the lines of a traceback, and code of C recurses no deeper than
   the stack allows, whatever limit the task has set.
"""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator
from os import fstat, stat, write
from stat import S_ISREG
from sys import getrecursionlimit, setrecursionlimit
from time import monotonic
from typing import Any

from cloud_tasks.errors import InputError, Retry
from cloud_tasks.worker.common.os_errors import NO_ROOM, OWN_FAILURE, os_error_text

__all__ = [
    "MAX_RECURSION",
    "bounded_recursion",
    "describe",
    "exception_head",
    "failure",
    "note_outputs",
    "own_failure",
    "report_problem",
    "text_of",
]

MAX_RECURSION = 10_000
"""Recursion limit up to which code of C does not exceed the stack."""

_TEXT_LIMIT = 16 * 1024
_TRACE_LIMIT = 64 * 1024
_OWN_ERRORS = NO_ROOM - {errno.EFBIG}
"""Error numbers of a file of ours; only a limit that the task sets makes one too large."""
_OF_OUTPUT = _OWN_ERRORS | {errno.EPIPE, errno.EAGAIN}
"""Error numbers of an output that takes no more data."""
_OF_TASK = (errno.EBADF, errno.EFBIG)
_CHAIN_LIMIT = 50
"""Exceptions of a chain that are looked at."""
_PRINTED_LIMIT = 200
"""Exceptions of a chain or group above which only the first has a traceback: each takes time."""
_OWN_MODULES = ("cloud_tasks.worker.", "asyncio.")
_SOURCE_LIMIT = 16 * 1024 * 1024
"""Bytes of a source file above which its lines are left out of tracebacks."""
_File = tuple[int, int]
"""Device and number of a file."""
_outputs: set[_File] = set()
"""Standard output and error of this process before the first task."""


def note_outputs() -> None:
    """Remember the present standard output and error as those of the worker."""
    _outputs.update(_files(1, 2))


def _files(*descriptors: int) -> Iterator[_File]:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            found = fstat(descriptor)
            yield found.st_dev, found.st_ino


@contextlib.contextmanager
def bounded_recursion() -> Iterator[None]:
    """Lower the recursion limit to one that the stack allows."""
    limit = getrecursionlimit()
    try:
        if limit > MAX_RECURSION:
            setrecursionlimit(MAX_RECURSION)
        yield
    finally:
        setrecursionlimit(limit)


def exception_head(error: Any, *, is_fork: bool, output: int | None = None) -> dict[str, Any]:
    """Return the head of the report of what the function raised, in the task's process or in a fork of that.

    Args:
        output: Descriptor of the file for the output of this attempt alone; None for none.
    """
    with bounded_recursion():
        return _exception_head(error, is_fork, output)


def _exception_head(error: Any, is_fork: bool, output: int | None) -> dict[str, Any]:
    raised_at = monotonic()
    if issubclass(type(error), SystemExit):
        head = _exit_request(error)
    elif issubclass(type(error), Retry) and not is_fork:
        head = _retry_request(error, output)
    else:
        head = failure(error, output)
    return {"exit_code": head.get("exit_code", 1)} if is_fork else {**head, "at": raised_at}


def failure(error: BaseException, output: int | None = None) -> dict[str, Any]:
    """Return the head of the report of a function that raised; print the traceback, or an error of its data."""
    try:
        trace = printed = _encodable(_traceback_of(error))
        if _is_of_input(error):
            trace, printed = "", _encodable(f"{error}\n")
    except BaseException:
        trace = printed = ""
    own = _outputs if output is None else _outputs.union(_files(output))
    unwritable = _print(printed, own)
    kinds = [_name_of(kind) for kind in _bases_of(type(error))[:-2]]
    head: dict[str, Any] = {
        "error": _name_of(type(error)),
        "message": describe(error, name=False),
        "trace": trace[-_TRACE_LIMIT:],
    }
    if len(kinds) > 1:
        head["kinds"] = kinds
    try:
        return head | _means(error, unwritable, own)
    except BaseException:
        # Attributes of an exception may be code of the task.
        return head


def own_failure(what: str, error: BaseException) -> dict[str, Any]:
    """Return the head of the report of an attempt that our own code could not run or report."""
    text = os_error_text(error) if isinstance(error, OSError) else describe(error)
    return {"error": _name_of(type(error)), "message": text, "own_failure": f"{what}: {text}"}


def report_problem(what: str, error: BaseException) -> dict[str, Any]:
    """Return the head of the report of an attempt whose own report was impossible.

    That is a failure of our own means only if the system has no room.
    """
    head = own_failure(what, error)
    if not (isinstance(error, OSError) and error.errno in _OWN_ERRORS):
        head["message"] = head.pop("own_failure")
    return head


def _traceback_of(error: BaseException) -> str:
    """Return the traceback. The name of the file of a frame may be that of a device or a pipe, which would block."""
    import tokenize
    import traceback

    source: Any = tokenize
    former = source.open

    def open_source(path: str) -> Any:
        found = stat(path)
        if not S_ISREG(found.st_mode) or found.st_size > _SOURCE_LIMIT:
            raise OSError(f"no source file: {path}")
        return former(path)

    source.open = open_source
    try:
        if sum(1 for _ in _chain(error, _PRINTED_LIMIT)) == _PRINTED_LIMIT:
            frames = "".join(traceback.format_tb(_user_frames(error)))
            head, end = (
                "Traceback (most recent call last):\n",
                f"({_PRINTED_LIMIT} or more other exceptions are left out)\n",
            )
            return f"{head}{frames}{describe(error)}\n{end}"
        return "".join(traceback.format_exception(type(error), error, _user_frames(error)))
    finally:
        source.open = former


def _print(trace: str, own: set[_File]) -> bool:
    """Print a traceback and what is buffered; return whether the output that we set up takes no more data."""
    is_unwritable = False
    for stream, text in ((sys.stderr, trace), (sys.stdout, "")):
        try:
            stream.write(text)
            stream.flush()
        except OSError as error:
            # Another descriptor, a closed one or a limit is the function's doing.
            if error.errno not in _OF_TASK and not own.isdisjoint(_files(_descriptor(stream))):
                is_unwritable = True
        except BaseException:
            continue
    return is_unwritable


def _is_output_broken(own: set[_File]) -> bool:
    """Return whether standard output or error takes no more data: a stream may have dropped what it could not write."""
    for descriptor in (1, 2):
        if own.isdisjoint(_files(descriptor)):
            continue
        try:
            write(descriptor, b"\n")
        except OSError as error:
            if error.errno not in _OF_TASK:
                return True
    return False


def _descriptor(stream: Any) -> int:
    try:
        number = stream.fileno()
    except BaseException:
        return -1
    return number if type(number) is int else -1


def _means(error: BaseException, unwritable: bool, own: set[_File]) -> dict[str, Any]:
    """Return the members of the head that mark a failure of our own means, or a full disk."""
    for cause in _chain(error):
        mark = getattr(cause, OWN_FAILURE, None)
        if isinstance(mark, str):
            return {"own_failure": mark}
        if not isinstance(cause, OSError) or cause.errno is None:
            continue
        if cause.filename is None and (unwritable or (cause.errno in _OF_OUTPUT and _is_output_broken(own))):
            return {"own_failure": f"cannot write the output of the task: {os_error_text(cause)}"}
        if cause.errno in NO_ROOM:
            return {"errno": cause.errno}
    return {}


def _chain(error: BaseException, limit: int = _CHAIN_LIMIT) -> Iterator[BaseException]:
    """Yield an exception, its causes and the members of its groups, up to a number."""
    waiting, seen = [error], 0
    while waiting and seen < limit:
        current = waiting.pop()
        seen += 1
        yield current
        members = getattr(current, "exceptions", ())
        waiting += [
            other
            for other in (current.__context__, current.__cause__, *(members if isinstance(members, tuple) else ()))
            if isinstance(other, BaseException)
        ]


def _is_of_input(error: BaseException) -> bool:
    """Return whether our own code refused the data of the task: no frame is the user's."""
    frame = error.__traceback__ if isinstance(error, InputError) else None
    is_ours = frame is not None
    while frame is not None:
        is_ours = is_ours and str(frame.tb_frame.f_globals.get("__name__")).startswith("cloud_tasks.")
        frame = frame.tb_next
    return is_ours


def _user_frames(error: BaseException) -> Any:
    """Return the traceback from the first frame of the user's code; all of it if there is none."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_globals.get("__name__", "").startswith(_OWN_MODULES):
        frame = frame.tb_next
    return frame or error.__traceback__


def _retry_request(request: Retry, output: int | None) -> dict[str, Any]:
    """Return the head of the report of a function that raised `Retry`, or of its failure if the request is invalid."""
    try:
        # A subclass may have set the attributes without the checks of the constructor.
        checked = Retry(request.reason, after=request.after)
        return {"retry": True, "reason": text_of(checked.reason), "after": checked.after}
    except BaseException as error:
        return failure(error, output)


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


def describe(error: BaseException, *, name: bool = True) -> str:
    """Return an exception's message, after the name of its class if ``name`` is true.

    An exception in its ``__str__`` is named instead of the message.
    """
    try:
        message = str(error)
    except BaseException as second:
        message = f"(no message: __str__ raised {_name_of(type(second))})"
    # Of a subclass of str, whose methods are the task's own, a plain copy.
    message = str.__str__(message)
    return text_of(f"{_name_of(type(error))}: {message}" if name else message)


def _name_of(kind: type[Any]) -> str:
    """Return the name of a class, whatever its metaclass does."""
    name: str = type.__dict__["__name__"].__get__(kind)
    return name


def _bases_of(kind: type[Any]) -> tuple[type[Any], ...]:
    bases: tuple[type[Any], ...] = type.__dict__["__mro__"].__get__(kind)
    return bases


def text_of(value: Any) -> str:
    """Return a value as text, truncated to 16 KiB of characters."""
    text = str(value)
    return _encodable(text if len(text) <= _TEXT_LIMIT else f"{text[:_TEXT_LIMIT]}…")


def _encodable(text: str) -> str:
    if text.isascii():
        return text
    from cloud_tasks.sanitize import clean_text

    return clean_text(text)
