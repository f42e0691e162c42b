"""Judgement of soak tests."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from soak_job import CloudState, completed, repeating


def judge(*, has_faults: bool, preemptions: int = 0, failed_calls: int = 0) -> bool:
    """Judge a job of one task that ran once."""
    folder: Any = SimpleNamespace(
        status=lambda: {"counts": {"completed": 1}, "attempts": 1, "losses": 0},
        sums=lambda: {"task-00001": 2},
        log=lambda: "",
    )
    cloud = CloudState(faults="", preemptions=preemptions, failed_calls=failed_calls, left=[])
    scenario = "faults" if has_faults else "normal"
    return completed(scenario, folder, cloud, tasks=1, code=0, seconds=1.0)


@pytest.mark.parametrize(("preemptions", "failed_calls", "passes"), [(1, 1, True), (0, 1, False), (1, 0, False)])
def test_completed_demands_the_faults_of_a_scenario(preemptions: int, failed_calls: int, passes: bool) -> None:
    assert judge(has_faults=True, preemptions=preemptions, failed_calls=failed_calls) is passes


def test_completed_demands_no_faults_without_them() -> None:
    assert judge(has_faults=False)


def test_repeating_raises_the_error_of_its_action() -> None:
    def fail() -> None:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"), repeating(fail, pause=60):
        pass


def test_repeating_runs_the_action_again() -> None:
    runs = threading.Semaphore(0)
    with repeating(runs.release, pause=0):
        assert all(runs.acquire(timeout=60) for _ in range(3))
