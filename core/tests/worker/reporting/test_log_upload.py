"""Logs of attempts and their upload."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from worker_harness import Harness, wait_until

from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.reporting import log_upload
from cloud_tasks.worker.reporting.log_upload import LogUploader
from cloud_tasks.worker.task_process import result_store
from cloud_tasks.worker.task_process.output_capture import log_path


def test_log_path_is_unique_for_each_task_id() -> None:
    ids = ["a/b", "a_b", "a b", "é", "e", "x" * 300, "x" * 301, "..", "\ud800"]
    assert len({log_path("logs", task_id, 1) for task_id in ids}) == len(ids)
    assert {Path(log_path("logs", task_id, 1)).parent.name for task_id in ids} == {"logs"}


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_log_upload_puts_the_address_into_the_event(worker: Harness, scheme: str) -> None:
    store = f"{scheme}{worker.folder / 'store'}"
    finished = worker.run_tasks({"do": "print"}, {"do": "nothing"}, args=("--log-store", store))
    assert finished.code == 3, finished.log
    assert worker.events("task_exception")[0]["log_address"] == f"{store}/task-0.1.log"
    assert (worker.folder / "store" / "task-0.1.log").read_text().startswith("these are my last words\n")
    # A task without output has no log.
    assert "log_address" not in worker.events("task_completed")[0]
    assert [path.name for path in (worker.folder / "store").iterdir()] == ["task-0.1.log"]
    assert worker.nothing_is_left()


def test_log_upload_keeps_the_log_of_each_attempt_on_disk_and_in_the_store(worker: Harness) -> None:
    worker.run_tasks(
        {"do": "print"},
        args=("--log-store", "store", "--task-log-dir", "logs", "--retry-on-exception", "--max-attempts", "2"),
        CLOUD_TASKS_BACKOFF_BASE="0.01",
    )
    for folder in ("store", "logs"):
        assert sorted(path.name for path in (worker.folder / folder).iterdir()) == ["task-0.1.log", "task-0.2.log"]


def test_log_upload_that_fails_fails_no_task(worker: Harness) -> None:
    (worker.folder / "store").write_text("a file where the folder should be")
    finished = worker.run_tasks({"do": "print"}, {"do": "nothing"}, args=("--log-store", "store"))
    assert finished.code == 3
    assert [event["event_type"] for event in worker.events("task_exception", "task_completed")] == [
        "task_exception",
        "task_completed",
    ]
    assert "cannot upload the log of a task" in worker.events("non_fatal_exception")[0]["exception"]
    assert "1 task log not uploaded" in finished.log
    assert worker.nothing_is_left()


def test_log_upload_is_retried(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    Path(log_path(str(tmp_path), "task", 1)).write_text("text")
    problems: list[str] = []
    uploads = LogUploader(
        str(tmp_path), str(tmp_path / "store"), keep=False, on_problem=problems.append, log=Log(verbose=False)
    )
    address = uploads.put("task", 1)
    assert address is not None
    (tmp_path / "store").unlink()
    wait_until(lambda: Path(address).exists())
    uploads.close(10)
    assert (problems, uploads.failed) == ([], 0)
    assert not Path(log_path(str(tmp_path), "task", 1)).exists()


def test_worker_rejects_task_logs_with_reused_processes(worker: Harness) -> None:
    finished = worker.run_tasks({"do": "nothing"}, args=("--log-store", "store", "--reuse-processes", "2"))
    assert finished.code == 2
    assert "--reuse-processes" in finished.log


def test_log_upload_waits_between_attempts_while_logs_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_upload, "_MIN_BACKOFF", 3600.0)
    monkeypatch.setattr(log_upload, "_THREADS", 1)
    attempts = threading.Semaphore(0)

    def fail(*_: object) -> None:
        attempts.release()
        raise OSError("the store is full")

    monkeypatch.setattr(result_store, "store_file", fail)
    uploads = LogUploader(str(tmp_path), "store", keep=False, on_problem=lambda _: None, log=Log(verbose=False))
    for number in range(5):
        Path(log_path(str(tmp_path), "task", number)).write_text("text")
        assert uploads.put("task", number)
        assert attempts.acquire(timeout=60 if number == 0 else 0.1) == (number == 0)
    uploads.close(60)
    assert uploads.failed == 5
