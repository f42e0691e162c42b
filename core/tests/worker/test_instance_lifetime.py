"""The end of a worker before the end of its instance, and the name by which the instance finds it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from worker_harness import Harness, wait_until

ENDS = ("task_completed", "task_released", "task_exited", "task_dead")


def waiting(name: str) -> dict[str, str]:
    return {"do": "nothing", "until": name}


def uptime(seconds_ago: float) -> str:
    return f"{time.clock_gettime(time.CLOCK_BOOTTIME) - seconds_ago:.2f}"


def test_drain_finishes_running_tasks_and_takes_no_more(worker: Harness) -> None:
    worker.load(waiting("go"), {"do": "nothing"})
    process = worker.start_on_queue(
        "--num-simultaneous-tasks", "1", CLOUD_TASKS_DRAIN_AFTER="3", CLOUD_TASKS_MAX_LIFETIME="600"
    )
    wait_until(lambda: worker.queued_events("task_started"), what="the task")
    time.sleep(4)
    assert process.poll() is None
    (worker.folder / "go").touch()
    finished = worker.finish(process)
    assert finished.code == 0, finished.log
    assert "Draining: the instance ends soon; 1 running task" in finished.log
    assert [event["task_id"] for event in worker.queued_events(*ENDS)] == ["task-0"]
    assert worker.queue().depth().visible == 1


def test_drain_of_an_idle_worker_ends_it(worker: Harness) -> None:
    worker.load()
    finished = worker.run_on_queue(CLOUD_TASKS_DRAIN_AFTER="0.5", CLOUD_TASKS_IDLE_LIMIT="600")
    assert finished.code == 0, finished.log
    (event,) = worker.queued_events("worker_stopped")
    assert event["reason"] == "the instance ends soon"


def test_shutdown_during_a_drain_releases_running_tasks(worker: Harness) -> None:
    worker.load(waiting("never"))
    process = worker.start_on_queue("--shutdown-grace-period", "0", CLOUD_TASKS_DRAIN_AFTER="2")
    wait_until(lambda: worker.queued_events("task_started"), what="the task")
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    finished = worker.finish(process)
    assert "Draining" in finished.log
    assert "Shutting down" in finished.log
    assert [event["event_type"] for event in worker.queued_events(*ENDS)] == ["task_released"]


@pytest.mark.parametrize("option", ["CLOUD_TASKS_DRAIN_AFTER", "CLOUD_TASKS_MAX_LIFETIME"])
def test_lifetime_counts_from_the_start_of_the_instance(worker: Harness, option: str) -> None:
    worker.load()
    environment = {option: "3600", "CLOUD_TASKS_IDLE_LIMIT": "600", "CLOUD_TASKS_BOOT_UPTIME": uptime(3600)}
    assert worker.run_on_queue(**environment).code == 0


def test_worker_of_a_task_file_does_not_drain(worker: Harness) -> None:
    finished = worker.run_tasks({"do": "sleep", "seconds": 1}, {"do": "nothing"}, args=("--drain-after", "0.1"))
    assert finished.code == 0, finished.log
    assert len(worker.events("task_completed")) == 2


def test_worker_names_its_process_and_not_those_of_its_tasks(worker: Harness) -> None:
    worker.load(waiting("go"))
    process = worker.start_on_queue(CLOUD_TASKS_PROCESS_NAME="ctw-12345")
    started = wait_until(lambda: worker.queued_events("task_started"), what="the task")
    names = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in (process.pid, started[0]["pid"])]
    (worker.folder / "go").touch()
    assert worker.finish(process).code == 0
    assert names[0] == "ctw-12345"
    assert names[1] != "ctw-12345"
