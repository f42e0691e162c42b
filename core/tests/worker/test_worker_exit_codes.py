"""Exit codes of a worker that was started by hand."""

from __future__ import annotations

from typing import Any

import pytest
from worker_harness import Harness

GOOD: dict[str, Any] = {"do": "nothing"}
BAD: dict[str, Any] = {"do": "raise"}


@pytest.mark.parametrize(
    ("tasks", "args", "code"),
    [
        ((GOOD, GOOD), (), 0),
        ((GOOD, BAD), (), 3),
        ((BAD, BAD), (), 3),
        ((GOOD, BAD), ("--accept-failures", "1"), 0),
        ((BAD, BAD), ("--accept-failures", "1"), 3),
        ((GOOD, BAD), ("--accept-failures", "50%"), 0),
        ((GOOD, BAD), ("--accept-failures", "49.9%"), 3),
        ((GOOD, BAD), ("--accept-failures", "many"), 2),
    ],
)
def test_worker_exit_code_shows_whether_its_tasks_failed(
    worker: Harness, tasks: tuple[dict[str, Any], ...], args: tuple[str, ...], code: int
) -> None:
    finished = worker.run_tasks(*tasks, args=args)
    assert finished.code == code, finished.log
    if code == 2:
        assert (
            'error: --accept-failures: expected a number of tasks such as 5, or a share such as 2%, got "many"'
            in finished.log
        )


def test_worker_exit_code_counts_tasks_and_not_their_failed_attempts(worker: Harness) -> None:
    finished = worker.run_tasks({"do": "retry until", "attempts": 3}, GOOD, args=("--backoff-base", "0.01"))
    assert (finished.code, worker.noted("attempts")) == (0, ["1", "2", "3"])


def test_worker_that_gave_up_on_a_task_exits_with_3(worker: Harness) -> None:
    task = {"do": "retry until", "attempts": 9}
    finished = worker.run_tasks(task, GOOD, args=("--backoff-base", "0.01", "--max-attempts", "2"))
    assert finished.code == 3
    assert "3 tasks attempted, 1 failed; retry them with --retry-failed" in finished.log


def test_worker_that_stops_before_the_end_of_its_task_file_exits_with_1(worker: Harness) -> None:
    finished = worker.run_tasks(
        *[{"do": "sleep", "seconds": 60}] * 3, args=("--max-lifetime", "0.3", "--shutdown-grace-period", "0")
    )
    assert finished.code == 1, finished.log


def test_worker_of_a_queue_reports_the_failures_of_its_own_tasks(worker: Harness) -> None:
    worker.load(GOOD, BAD)
    assert worker.run_on_queue().code == 3


def test_worker_of_an_instance_leaves_the_failures_to_the_job(worker: Harness) -> None:
    worker.load(GOOD, BAD)
    assert worker.run_on_queue(CLOUD_TASKS_ACCEPT_FAILURES="100%").code == 0


@pytest.mark.parametrize("option", ["--log-store", "--result-store", "--task-log-dir", "--event-spool-dir"])
@pytest.mark.parametrize("name", ["file", "file/below", "link/below"])
def test_worker_refuses_a_folder_option_that_is_a_file(worker, option: str, name: str) -> None:
    (worker.folder / "file").touch()
    (worker.folder / "link").symlink_to("file")
    finished = worker.run_tasks({"do": "nothing"}, args=(option, name))
    assert finished.code == 2
    assert finished.log.splitlines() == [
        f"error: {option}: {worker.folder}/{name.partition('/')[0]} is not a folder; choose another one"
    ]
