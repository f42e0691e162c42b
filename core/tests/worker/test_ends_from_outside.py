"""A task that somebody else ended."""

from __future__ import annotations

import signal

import pytest

from cloud_tasks.worker.supervisor.outcome import OutcomeKind, read_outcome


def test_a_task_that_was_asked_to_end_from_outside_is_released() -> None:
    """A machine that is switched off signals the task and its worker at once: the task has not failed."""
    outcome = read_outcome(status=signal.SIGTERM, content=b"", cause="")
    assert outcome.kind is OutcomeKind.RELEASED


@pytest.mark.parametrize("status", [signal.SIGKILL, signal.SIGSEGV, 1 << 8])
def test_any_other_end_is_its_own(status: int) -> None:
    assert read_outcome(status=status, content=b"", cause="").kind is OutcomeKind.EXITED


def test_a_task_that_is_ended_for_its_time_has_timed_out() -> None:
    assert read_outcome(status=signal.SIGTERM, content=b"", cause="timeout", limit=1.0).kind is OutcomeKind.TIMED_OUT
