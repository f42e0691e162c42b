"""Logs of attempts and their upload."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_harness import Harness, wait_until

from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.reporting import log_upload
from cloud_tasks.worker.reporting.log_upload import LogUploader
from cloud_tasks.worker.task_process import result_store
from cloud_tasks.worker.task_process.output_capture import log_path
from cloud_tasks.worker.task_process.result_store import store_file

IDS = ["a/b", "a_b", "a b", "a\nb", "a_b-ef0790fb", "é", "e", "x" * 251, "x" * 300, "x" * 301, "数" * 120, "数" * 121]
IDS += ["..", ".", "-", "", "a.1", "\ud800", "a=1,b=2", "%", "CON", "a\x00b", "\x1b[31m"]
ATTEMPTS = st.integers(1, 1 << 40)


def names(task_id: str, attempt: int) -> list[str]:
    """Return the names of the files of an attempt, drafts included."""
    log = Path(log_path("logs", task_id, attempt))
    assert log.parent == Path("logs")
    assert result_store.log_name(task_id, attempt) == log.name
    return [log.name, *(result_store.result_name(task_id, attempt, kind) for kind in ("json", "pickle"))]


def test_names_of_an_attempt_are_unique_and_fit_a_file_system(tmp_path: Path) -> None:
    found = [name for task_id in IDS for attempt in (1, 2, 12) for name in names(task_id, attempt)]
    assert len(set(found)) == len(found) == len(IDS) * 9
    for name in found:
        store_file(str(tmp_path / name), io.BytesIO(name.encode()))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: name for name in found}


@given(st.text(st.characters(), max_size=300), st.text(st.characters(), max_size=300), ATTEMPTS, ATTEMPTS)
def test_names_of_any_two_attempts_differ(one: str, other: str, first: int, second: int) -> None:
    same = (one, first) == (other, second)
    assert set(names(one, first)).isdisjoint(names(other, second)) != same
    assert all(len(name.encode()) < 230 and "/" not in name for name in names(one, first))


@pytest.mark.parametrize("task_id", ["x" * 251, "数" * 120, "a\nb"])
def test_log_and_result_of_a_task_with_a_long_id_are_kept(worker: Harness, task_id: str) -> None:
    tasks = worker.folder / "tasks.json"
    tasks.write_text(json.dumps([{"task_id": task_id, "data": {"do": "chatty", "size": 5000}}]))
    stores = ("--result-store", "results", "--log-store", "store", "--task-log-dir", "logs")
    finished = worker.run("--task-file", str(tasks), "--max-result-bytes", "100", *stores)
    assert finished.code == 0, finished.log
    (event,) = worker.events("task_completed")
    assert Path(event["result_address"]).read_text() == '"' + "x" * 5000 + '"'
    assert Path(event["log_address"]).read_text() == "a word\n"
    assert [path.name for path in (worker.folder / "logs").iterdir()] == [Path(event["log_address"]).name]
    again = worker.run("--task-file", str(tasks), "--resume", *stores)
    assert again.code == 0
    assert len(worker.events("task_completed")) == 1


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
    # A folder has the name of the log.
    (worker.folder / "store" / "task-0.1.log").mkdir(parents=True)
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
