"""Outcome of an attempt, read from its wait status and its report. Pure."""

from __future__ import annotations

import enum
import json
import os
import signal
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from cloud_tasks.worker.common.formatting import format_duration
from cloud_tasks.worker.task_process.runner import HEAD_LENGTH

__all__ = ["SHUT_DOWN", "Outcome", "OutcomeKind", "read_outcome"]


class OutcomeKind(enum.StrEnum):
    """Kinds of outcome: those of `cloud_tasks.model.AttemptOutcome`, which is slow to import, and one more."""

    COMPLETED = "completed"
    RETRY_REQUESTED = "retry_requested"
    EXCEPTION = "exception"
    TIMED_OUT = "timed_out"
    EXITED = "exited"
    LOST = "lost"
    """Interrupted: the fork server of its process died. Limited by ``max_losses``."""
    RELEASED = "released"
    """Interrupted by a worker that shuts down. Not limited here."""


_SIGNAL_CAUSES = {
    "SIGTERM": "ended by SIGTERM, sent by the task itself or by another process",
    "SIGSEGV": "segmentation fault: a library of the task accessed invalid memory",
    "SIGBUS": "bus error: a mapped file was truncated, or the shared memory is full",
    "SIGABRT": "aborted by a library of the task",
    "SIGFPE": "arithmetic error in a library of the task",
    "SIGILL": "illegal instruction: a library built for another processor",
    "SIGKILL": "killed by another process or the kernel, most likely because memory ran out",
}


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


SHUT_DOWN = Outcome(kind=OutcomeKind.RELEASED, details={"cause": "the worker was shut down"})


def read_outcome(
    *, status: int, content: bytes, cause: str, tail: bytes = b"", limit: float | None = None, memory: float = 0.0
) -> Outcome:
    """Return the outcome of one attempt.

    Args:
        status: Wait status of its process, as `os.wait` returns it.
        content: The report; an incomplete one counts as none.
        cause: Reason for which the worker ended the task; empty for none. A complete report takes precedence.
        tail: End of its output.
        limit: The limit that it exceeded: seconds or GB.
        memory: Memory at the last check, in GB.
    """
    head, result = _split(content)
    printed = {"log_tail": tail.decode("utf-8", "replace")} if tail else {}
    if head is not None:
        return _reported(head, result, printed)
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
    return _exited(os.waitstatus_to_exitcode(status), printed)


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
    if "exited" in head:
        return _exited(int(head.get("exit_code", 0)) & 0xFF, printed)
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
        details["cause"] = _SIGNAL_CAUSES.get(name, f"ended by {name}")
    else:
        details["cause"] = "the process exited before the task's function returned"
    return Outcome(kind=OutcomeKind.EXITED, details={**details, **printed}, exit_code=code)
