"""Log lines about tasks: their starts and ends, and warnings about results."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from cloud_tasks.escape import terminal_line
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.consumers.attempt_types import RunningAttempt
from cloud_tasks.worker.supervisor.execution.completion import Completion
from cloud_tasks.worker.supervisor.execution.outcome import OutcomeKind
from cloud_tasks.worker.supervisor.settings import SupervisorSettings

__all__ = ["TaskLog", "end_lines"]

_LOGGED_RESULT_BYTES = 1000
# Members of an enumeration take long to look up, for code that runs once per task.
_COMPLETED_KINDS, _EXCEPTION = (OutcomeKind.COMPLETED, OutcomeKind.RETRY_REQUESTED), OutcomeKind.EXCEPTION
_decode: Callable[[str], tuple[Any, int]] = json.JSONDecoder().raw_decode
"""Parses JSON without blanks before it; returns the value and its end. Faster than `json.loads`."""
_MAX_NOTICES = 20


class TaskLog:
    """Writes the lines about tasks. Used in the supervisor's loop."""

    def __init__(self, settings: SupervisorSettings, log: Log) -> None:
        self._log = log
        self._level = "INFO" if settings.log_tasks else "DEBUG"
        self._is_alone = settings.reuse == 1
        """Whether each attempt has a process of its own."""
        self.is_enabled = settings.log_tasks or log.verbose
        self._notices: set[str] = set()

    def started(self, attempt: RunningAttempt) -> None:
        """Log the start of an attempt."""
        if self._is_alone:
            worker = f"Worker #{attempt.number}"
            self._hold(f"Started single-task worker #{attempt.number} (PID {attempt.pid})")
            self._hold(f"{worker}: Started, processing task {attempt.work.task_id}")

    def ended(self, completion: Completion, number: int, seconds: float) -> None:
        """Log the end of an attempt. For the arguments see `end_lines`."""
        for line in end_lines(completion, number, seconds, is_alone=self._is_alone):
            self._hold(line)

    def notice(self, task_id: str, kind: str, text: str) -> None:
        """Log the first warning of a kind about a result, so that it is known before all tasks have run."""
        if kind not in self._notices and len(self._notices) < _MAX_NOTICES:
            self._notices.add(kind)
            self._log.warning(f"Task {terminal_line(task_id)}: {terminal_line(text)} (shown once)")

    def _hold(self, text: str) -> None:
        self._log.hold(text, level=self._level)


def end_lines(completion: Completion, number: int, seconds: float, *, is_alone: bool) -> Iterator[str]:
    """Yield the log lines of an attempt's end.

    Args:
        number: Number of the attempt in this worker.
        seconds: Time that it ran.
        is_alone: Whether its process ran no other attempt.
    """
    outcome, task_id, worker = completion.outcome, completion.task_id, f"Worker #{number}"
    is_completed = outcome.kind in _COMPLETED_KINDS
    if is_alone and is_completed:
        yield f"{worker}: Completed task {task_id} in {seconds:.2f} seconds, retry {completion.retry}"
        yield f"{worker}: Exiting"
    elif is_alone and outcome.kind is _EXCEPTION:
        yield f"{worker}: Task {task_id} raised {outcome.exception_text} after {seconds:.2f} seconds"
        yield f"{worker}: Exiting"
    retry = "with retry" if completion.retry else "with no retry"
    start = f"{worker} reported task {task_id}"
    if is_completed:
        result = outcome.result[:_LOGGED_RESULT_BYTES].decode("utf-8", "replace")
        text: Any = result
        if len(result) < _LOGGED_RESULT_BYTES and result.startswith('"'):
            with contextlib.suppress(ValueError):
                text = _decode(result)[0]
        if "result_type" in outcome.details:
            text = f"<{outcome.details['result_type']}>"
        yield f"{start} completed in {seconds:.1f} seconds {retry}; result: {text}"
    elif outcome.kind is _EXCEPTION:
        yield f"{start} raised an exception in {seconds:.1f} seconds {retry}; {outcome.exception_text}"
    elif outcome.kind is OutcomeKind.TIMED_OUT:
        yield f"{start} timed out in {seconds:.1f} seconds {retry}"
    elif outcome.kind is OutcomeKind.EXITED:
        cause = f"exit code {outcome.exit_code} ({outcome.details['cause']})"
        yield f"{start} exited in {seconds:.1f} seconds {retry}; {cause}"
    else:
        yield f"{start} interrupted after {seconds:.1f} seconds; {outcome.details.get('cause', '')}"
