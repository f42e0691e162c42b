"""Outcome of an attempt, read from its wait status, its report and, if it failed, the room in the worker's folders.

Invariant, with a test: a failure of the worker's own means (output, scratch folder, report, room in the file systems of
its folders) ends no task. The attempt counts as interrupted, with the system's error as the cause.
"""

from __future__ import annotations

import enum
import errno
import os
import re
import signal
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from cloud_tasks.worker.common.formatting import format_duration
from cloud_tasks.worker.common.os_errors import full_folder, os_error_text
from cloud_tasks.worker.forkserver.protocol import UNKNOWN_STATUS
from cloud_tasks.worker.task_process.report_format import split_report

__all__ = ["MIN_REPORT", "SHUT_DOWN", "Outcome", "OutcomeKind", "end_text", "read_outcome"]


class OutcomeKind(enum.StrEnum):
    """Kinds of outcome: those of `cloud_tasks.model.AttemptOutcome`, which is slow to import, and one more."""

    COMPLETED = "completed"
    RETRY_REQUESTED = "retry_requested"
    EXCEPTION = "exception"
    TIMED_OUT = "timed_out"
    EXITED = "exited"
    LOST = "lost"
    """Interrupted: the worker's own means failed, or its fork server died. Limited by ``max_losses``."""
    RELEASED = "released"
    """Interrupted by a worker that shuts down. Not limited here."""


# A member of an enumeration takes long to look up, for code that runs once per task.
_COMPLETED = OutcomeKind.COMPLETED
_SIGNALS_OF_FULL_FILES = frozenset({signal.SIGBUS, signal.SIGXFSZ})
_SIGNAL_CAUSES = {
    "SIGTERM": "ended by SIGTERM, sent by the task itself or by another process",
    "SIGSEGV": "segmentation fault: a library of the task accessed invalid memory",
    "SIGBUS": "bus error: a mapped file was truncated, or the shared memory is full",
    "SIGABRT": "aborted by a library of the task",
    "SIGFPE": "arithmetic error in a library of the task",
    "SIGILL": "illegal instruction: a library built for another processor",
    "SIGSYS": "the task called a function of the system that it may not call (seccomp)",
    "SIGXCPU": "the task exceeded a limit of CPU time (RLIMIT_CPU)",
    "SIGXFSZ": "the task exceeded a limit of the size of files (RLIMIT_FSIZE)",
    "SIGKILL": "killed by another process, or by the kernel, most often because memory ran out, "
    "else at a limit that the task has set (CPU time, seccomp)",
}


_SHELL_MESSAGE = re.compile(r"(?:\S*/)?(?:ba|da)?sh: (?:line )?\d+: ")
_NOT_EXECUTED = (126, 127)
"""Exit codes of a shell for a program that cannot be executed, or does not exist."""
_TRACEBACK = "Traceback (most recent call last)"
_MAX_CAUSE = 500
_NO_REASON = "the process exited without reporting a result"
_UNKNOWN_END = "how the process ended is unknown: other code of the program has waited for it"
_DAMAGED = "the report of the task is damaged: the task wrote to a descriptor of the worker"
MIN_REPORT = 2
"""Bytes from which a report that cannot be read is damaged; a single one may be `result_file.REACHED`."""
_REPORT_ERRORS = {
    errno.EBADF: "the task has closed or replaced a descriptor of its worker",
    errno.EFBIG: "the task has limited the size of its files (RLIMIT_FSIZE)",
}
"""What a task has done that has no report because of an error."""


_RESULT_FIELDS = ("result_address", "result_bytes", "result_type", "result_pickle", "result_repr", "warning")
"""Fields of an event about a result that is not in it as JSON."""


class Outcome(NamedTuple):
    """Outcome of an attempt. Not attrs, whose import would delay the start of a worker with a task file."""

    kind: OutcomeKind
    details: Mapping[str, Any] = MappingProxyType({})
    """Fields of the event beyond the common ones."""
    result: bytes = b""
    """JSON; empty for no result."""
    after: float | None = None
    """Seconds before the next attempt, as requested by the task; None if it requested no delay."""
    kinds: tuple[str, ...] = ()
    """Names of the exception's class and its base classes."""
    exit_code: int | None = None
    own_failure: bool = False
    """Whether the worker's own means failed, as they may for its next attempts."""
    notice: tuple[str, str] | None = None
    """Kind and text of a warning about the result for the worker's log, which shows the first of each kind."""

    @property
    def exception_text(self) -> str:
        """Class and message of the exception."""
        return f"{self.details.get('exception_type')}: {self.details.get('exception')}"


SHUT_DOWN = Outcome(kind=OutcomeKind.RELEASED, details={"cause": "the worker was shut down"})


def read_outcome(
    *,
    status: int,
    content: bytes,
    cause: str,
    tail: bytes = b"",
    limit: float | None = None,
    memory: float = 0.0,
    folders: Sequence[str] = (),
    report_error: int = 0,
    limit_at: float = 0.0,
) -> Outcome:
    """Return the outcome of one attempt.

    Args:
        status: Wait status of its process, as `os.wait` returns it.
        content: The report; an incomplete one counts as none.
        cause: Reason for which the worker ended the task; empty for none. A complete report takes precedence, except
            that a task has timed out if it raised after its time limit: the signal may have made it do so.
        tail: End of its output.
        limit: The limit that it exceeded: seconds or GB.
        memory: Memory at the last check, in GB.
        folders: Folders of the worker for the output and the scratch files of tasks.
        report_error: Error number because of which the process could not report anything; 0 for none.
        limit_at: Time of its time limit (`time.monotonic`).
    """
    head, result = split_report(content)
    printed = {"log_tail": tail.decode("utf-8", "replace")} if tail else {}
    if head is not None and not (cause == "timeout" and _has_raised_late(head, limit_at)):
        return (_own_failure(head, printed, folders) if head else None) or _reported(head, result, printed)
    if cause == "shutdown":
        return SHUT_DOWN
    if cause == "timeout":
        return Outcome(
            kind=OutcomeKind.TIMED_OUT,
            details={"cause": f"timed out after {format_duration(limit or 0.0)} (max_runtime)", **printed},
        )
    if cause == "memory":
        message = f"the task used {memory:.2f} GB of memory; the limit is {limit:g} GB (max_memory_allowed_per_task)"
        return Outcome(
            kind=OutcomeKind.EXCEPTION,
            details={"exception": message, "exception_type": "MemoryLimitExceeded", **printed},
            kinds=("MemoryLimitExceeded", "MemoryError"),
        )
    if status == UNKNOWN_STATUS:
        return Outcome(kind=OutcomeKind.LOST, details={"cause": _UNKNOWN_END, **printed})
    code = os.waitstatus_to_exitcode(status)
    # A command that a task runs, or a mapped file, ends for lack of room without any other trace.
    problem = full_folder(folders) if code > 0 or -code in _SIGNALS_OF_FULL_FILES else ""
    if problem:
        return _interrupted(problem, printed)
    if len(content) >= MIN_REPORT:
        return _exited(code, printed, _DAMAGED)
    return _exited(code, printed, _unreported(report_error) if report_error else "")


def _has_raised_late(head: Mapping[str, Any], limit_at: float) -> bool:
    """Return whether a report is about an exception or exit after a time (`time.monotonic`)."""
    return ("error" in head or "exited" in head) and not head.get("own_failure") and head.get("at", 0.0) >= limit_at


def _unreported(number: int) -> str:
    text = f"cannot report the result: {os_error_text(OSError(number, os.strerror(number)))}"
    return f"{text}; {_REPORT_ERRORS[number]}" if number in _REPORT_ERRORS else text


def _own_failure(head: dict[str, Any], printed: Mapping[str, str], folders: Sequence[str]) -> Outcome | None:
    """Return the outcome if the worker's own means failed; None if the function's end is its own."""
    needed_room = "errno" in head or ("exited" in head and int(head.get("exit_code", 0)) & 0xFF != 0)
    cause = str(head.get("own_failure") or "") or (full_folder(folders) if needed_room else "")
    return _interrupted(cause, printed) if cause else None


def _interrupted(cause: str, printed: Mapping[str, str]) -> Outcome:
    return Outcome(kind=OutcomeKind.LOST, details={"cause": cause, "own_failure": True, **printed}, own_failure=True)


def _reported(head: dict[str, Any], result: bytes, printed: Mapping[str, str]) -> Outcome:
    if not head and not printed:
        return Outcome(_COMPLETED, result=result or b"null")
    if "exited" in head:
        return _exited(int(head.get("exit_code", 0)) & 0xFF, printed)
    notice = None if "notice" not in head else (str(head["notice"][0]), str(head["notice"][1]))
    if "error" in head:
        details = {"exception": str(head.get("message", "")), "exception_type": str(head["error"]), **printed}
        if head.get("trace"):
            details["stack_trace"] = str(head["trace"])
        kinds = tuple(head.get("kinds") or (details["exception_type"],))
        return Outcome(kind=OutcomeKind.EXCEPTION, details=details, kinds=kinds, notice=notice)
    details = {**{name: head[name] for name in _RESULT_FIELDS if name in head}, **printed}
    if head.get("retry"):
        if head.get("reason"):
            details["reason"] = str(head["reason"])
        return Outcome(
            kind=OutcomeKind.RETRY_REQUESTED,
            details=details,
            result=result or b"null",
            after=head.get("after"),
            notice=notice,
        )
    return Outcome(kind=OutcomeKind.COMPLETED, details=details, result=result or b"null", notice=notice)


def end_text(status: int) -> str:
    """Return what a wait status says about the end of a process."""
    code = os.waitstatus_to_exitcode(status)
    return f"exited with code {code}" if code >= 0 else f"was ended by {_signal_name(-code)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_line(output: str, code: int) -> str:
    """Return the line at the end of a process's output that shows why it exited; empty if there is none.

    The message of a shell that found no program, or the exception of a traceback, may be followed by buffered output.
    """
    lines = [line for line in output.splitlines() if line.strip()]
    messages = [line for line in lines if _SHELL_MESSAGE.match(line)]
    if code in _NOT_EXECUTED and messages:
        lines = messages
    elif any(line.startswith(_TRACEBACK) for line in lines):
        start = max(at for at, line in enumerate(lines) if line.startswith(_TRACEBACK))
        lines = [line for line in lines[start + 1 :] if not line[0].isspace()][:1] or lines
    reason = _SHELL_MESSAGE.sub("", lines[-1]).strip() if lines else ""
    return reason if len(reason) <= _MAX_CAUSE else f"{reason[: _MAX_CAUSE - 1]}…"


def _exited(code: int, printed: Mapping[str, str], cause: str = "") -> Outcome:
    details: dict[str, Any] = {"exit_code": code}
    if code < 0:
        name = _signal_name(-code)
        details["signal"] = name
        details["cause"] = _SIGNAL_CAUSES.get(name, f"ended by {name}")
    else:
        details["cause"] = cause or _last_line(printed.get("log_tail", ""), code) or _NO_REASON
    return Outcome(kind=OutcomeKind.EXITED, details={**details, **printed}, exit_code=code)
