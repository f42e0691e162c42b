"""Outcomes of tasks whose process was ended by a signal."""

from __future__ import annotations

import signal

import pytest

from cloud_tasks.worker.supervisor.execution.outcome import OutcomeKind, read_outcome


def test_read_outcome_releases_a_task_that_another_process_terminated() -> None:
    # A machine that powers off signals the task and its worker at once: the task has not failed.
    outcome = read_outcome(status=signal.SIGTERM, content=b"", cause="")
    assert outcome.kind is OutcomeKind.RELEASED


@pytest.mark.parametrize("status", [signal.SIGKILL, signal.SIGSEGV, 1 << 8])
def test_read_outcome_reports_other_signals_and_codes_as_exited(status: int) -> None:
    assert read_outcome(status=status, content=b"", cause="").kind is OutcomeKind.EXITED


def test_read_outcome_reports_a_task_over_its_time_limit_as_timed_out() -> None:
    assert read_outcome(status=signal.SIGTERM, content=b"", cause="timeout", limit=1.0).kind is OutcomeKind.TIMED_OUT
