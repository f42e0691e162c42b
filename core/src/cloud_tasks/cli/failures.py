"""Errors that no command has expected: of the system, of standard streams, of the database, of the interpreter.

Bad input and bad surroundings are described in one line with the place; only what is left is an internal error.

Invariants, each with a test:

1. Exit code 2 if the path at fault was given on the command line, 1 for surroundings.
2. No message contains content of the database.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence

from cloud_tasks import exit_codes
from cloud_tasks.sanitize import clean_text
from cloud_tasks.shortage import describe_shortage
from cloud_tasks.standard_streams import open_closed_streams

__all__ = ["describe_failure", "is_of_output", "prepare_streams", "silence_stdout"]

_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "use another folder",
}


def describe_failure(error: Exception, arguments: Sequence[str]) -> tuple[str, int] | None:
    """Return the message and the exit code for an exception; None if it is an internal error.

    Args:
        arguments: The command line.
    """
    is_about_space = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if not is_about_space and (shortage := describe_shortage(error)) is not None:
        return shortage, exit_codes.RUN_FAILED
    if isinstance(error, OSError):
        return _system_failure(error, arguments)
    if isinstance(error, UnicodeEncodeError):
        return _undecodable_argument(error, arguments)
    if isinstance(error, UnicodeDecodeError):
        return f"not {error.encoding.upper()} text ({error.reason})", exit_codes.RUN_FAILED
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return "a path contains a NUL character; remove it", exit_codes.BAD_INPUT
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        # pathlib, for a path with ~; a container's user may be in no database of users.
        return "this user has no home folder; set HOME, or give paths without ~", exit_codes.BAD_INPUT
    if isinstance(error, RecursionError):
        return "the input is nested too deeply", exit_codes.BAD_INPUT
    return _database_failure(error)


def _system_failure(error: OSError, arguments: Sequence[str]) -> tuple[str, int]:
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        place, code = "standard output: " if is_of_output(error) else "", exit_codes.RUN_FAILED
    else:
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else str(error.filename)
        place, code = (
            f"{clean_text(name, 200)}: ",
            exit_codes.BAD_INPUT if _is_given(name, arguments) else exit_codes.RUN_FAILED,
        )
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{place}{reason}{f'; {remedy}' if remedy else ''}", code


def is_of_output(error: OSError) -> bool:
    """Return whether printing, or the flush at the end, raised the error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") in ("click.utils", "cloud_tasks.cli.main")


def _is_given(name: str, arguments: Sequence[str]) -> bool:
    """Return whether a path, or a folder that it is in, is named on the command line."""
    path = os.path.abspath(name) if "\0" not in name else name
    for argument in arguments:
        given = argument.partition("=")[2] if argument.startswith("-") else argument
        if given and "\0" not in given:
            named = os.path.abspath(os.path.expanduser(given))
            folders = {named, os.path.dirname(named)} - {os.getcwd(), os.sep}
            if path == named or any(path.startswith(folder) for folder in folders):
                return True
    return False


def _undecodable_argument(error: UnicodeEncodeError, arguments: Sequence[str]) -> tuple[str, int]:
    """Describe text that cannot be encoded: an argument that is not UTF-8, or output for another encoding."""
    for argument in arguments:
        if clean_text(argument) != argument:
            return f'argument "{clean_text(argument, 120)}": not valid UTF-8 text', exit_codes.BAD_INPUT
    return (
        f"text cannot be encoded as {error.encoding.upper()}; use UTF-8 (PYTHONIOENCODING, LC_ALL)",
        exit_codes.RUN_FAILED,
    )


def _database_failure(error: Exception) -> tuple[str, int] | None:
    if type(error).__module__ != "sqlite3":
        return None
    # SQLite quotes the content of a column that is not UTF-8.
    reason = str(error) if "decode" not in str(error) else "text that is not UTF-8; the file is damaged"
    return f"job database: {' '.join(reason.split())}", exit_codes.RUN_FAILED


def prepare_streams() -> None:
    """Make standard streams usable: closed ones are opened, and unencodable characters are escaped."""
    open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def silence_stdout() -> None:
    """Send what is left in standard output nowhere, so that the interpreter's exit does not fail."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
