"""How an attempt ended, read from its exit status and its report. Pure."""

from __future__ import annotations

import enum
import json
import os
import signal
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from cloud_tasks.worker.task_process.runner import HEAD_LENGTH

__all__ = ["Outcome", "OutcomeKind", "read_outcome"]


class OutcomeKind(enum.Enum):
    """How an attempt ended: as `cloud_tasks.model.AttemptOutcome`, which is slow to import, with one more member."""

    COMPLETED = "completed"
    RETRY_REQUESTED = "retry_requested"
    EXCEPTION = "exception"
    TIMED_OUT = "timed_out"
    EXITED = "exited"
    LOST = "lost"
    """The fork server of its process died: limited by ``max_losses``."""
    RELEASED = "released"
    """Given back unfinished, by a worker that shuts down: a loss that is not limited here."""


_LIKELY = {
    "SIGSEGV": "segmentation fault: a library of the task used memory that is not its own",
    "SIGBUS": "bus error: a mapped file was cut, or the shared memory is full",
    "SIGABRT": "aborted by a library of the task",
    "SIGFPE": "arithmetic error in a library of the task",
    "SIGILL": "illegal instruction: a library built for another processor",
    "SIGKILL": "killed from outside, most likely because memory ran out",
}


class Outcome(NamedTuple):
    """Not attrs: a worker with a task file is there the sooner without it."""

    kind: OutcomeKind
    details: Mapping[str, Any] = MappingProxyType({})
    """What the event says beyond the common fields."""
    result: bytes = b""
    """JSON; empty: there is none."""
    after: float | None = None
    """Seconds before the next attempt, if the task said so."""
    kinds: tuple[str, ...] = ()
    """Names of the exception's class and its bases."""
    exit_code: int | None = None


def read_outcome(
    *, status: int, content: bytes, cause: str, tail: bytes = b"", limit: float | None = None, memory: float = 0.0
) -> Outcome:
    """The outcome of one attempt.

    Args:
        status: As `os.wait` gives it.
        content: The report; anything but a whole one counts as none.
        cause: Why the worker ended the task; empty when it did not. A whole report counts all the same.
        tail: The end of what it printed.
        limit: What ``cause`` exceeded: seconds or GB.
        memory: The most memory that it was seen to have, in GB.
    """
    head, result = _split(content)
    printed = {"log_tail": tail.decode("utf-8", "replace")} if tail else {}
    if head is not None:
        return _reported(head, result, printed)
    if cause == "shutdown":
        return Outcome(kind=OutcomeKind.RELEASED, details={"cause": "the worker was shut down"})
    if cause == "timeout":
        return Outcome(kind=OutcomeKind.TIMED_OUT, details={"cause": f"it took more than {limit:g} seconds", **printed})
    if cause == "memory":
        message = f"its processes had {memory:.2f} GB of memory, {limit:g} GB are allowed"
        return Outcome(
            kind=OutcomeKind.EXCEPTION,
            details={"exception": message, "exception_type": "MemoryLimitExceeded", **printed},
            kinds=("MemoryLimitExceeded", "MemoryError"),
        )
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGTERM:
        # A machine that is switched off signals all its processes at once, and the task may be faster than the worker.
        return Outcome(kind=OutcomeKind.RELEASED, details={"cause": "it was asked to end from outside"})
    return _exited(code, printed)


def _split(content: bytes) -> tuple[dict[str, Any] | None, bytes]:
    length = int.from_bytes(content[:HEAD_LENGTH], "little")
    if len(content) <= HEAD_LENGTH or len(content) < HEAD_LENGTH + length:
        return None, b""
    if content[HEAD_LENGTH : HEAD_LENGTH + length] == b"{}":
        return {}, content[HEAD_LENGTH + length :]
    try:
        head = json.loads(content[HEAD_LENGTH : HEAD_LENGTH + length])
    except ValueError:
        return None, b""
    return (head, content[HEAD_LENGTH + length :]) if isinstance(head, dict) else (None, b"")


def _reported(head: dict[str, Any], result: bytes, printed: Mapping[str, str]) -> Outcome:
    if "error" in head:
        details = {"exception": str(head.get("message", "")), "exception_type": str(head["error"]), **printed}
        if head.get("trace"):
            details["stack_trace"] = str(head["trace"])
        return Outcome(
            kind=OutcomeKind.EXCEPTION, details=details, kinds=tuple(head.get("kinds") or (details["exception_type"],))
        )
    details = {name: head[name] for name in ("result_address", "result_bytes") if name in head}
    if head.get("retry"):
        if head.get("reason"):
            details["reason"] = str(head["reason"])
        return Outcome(
            kind=OutcomeKind.RETRY_REQUESTED, details=details, result=result or b"null", after=head.get("after")
        )
    return Outcome(kind=OutcomeKind.COMPLETED, details=details, result=result or b"null")


def _exited(code: int, printed: Mapping[str, str]) -> Outcome:
    details: dict[str, Any] = {"exit_code": code}
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        details["signal"] = name
        details["cause"] = _LIKELY.get(name, "ended by a signal")
    else:
        details["cause"] = "its process ended before its function returned"
    return Outcome(kind=OutcomeKind.EXITED, details={**details, **printed}, exit_code=code)
