"""Workers that the report names: those that failed what others completed, or that an error ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from store_facts import completed, event, new_store

from cloud_tasks.model import Event, EventType, TaskStatus
from cloud_tasks.store import BrokenWorker, Store
from cloud_tasks.store.write.counters import read_counters

TASKS = [f"t{number}" for number in range(40)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path, TASKS)


def exits(tasks: Sequence[str], instance: str, attempt: int = 1) -> list[Event]:
    details = {"exit_code": 70}
    return [
        event(EventType.TASK_EXITED, task, attempt, retry=False, instance_id=instance, details=details)
        for task in tasks
    ]


def test_statistics_name_a_worker_that_failed_what_others_completed(store: Store) -> None:
    store.apply_events([*exits(TASKS[:20], "i-1"), *(completed(task, instance_id="i-2") for task in TASKS[20:])])
    reason = "20 of 20 tasks failed, elsewhere 20 of 20 completed; most frequent reason: exit code 70"
    assert store.statistics().broken_workers == (BrokenWorker(name="i-1", reason=reason),)


def test_statistics_name_no_worker_of_a_job_whose_tasks_fail_everywhere(store: Store) -> None:
    store.apply_events([*exits(TASKS[:20], "i-1"), *exits(TASKS[20:], "i-2")])
    assert store.statistics().broken_workers == ()


def test_statistics_name_a_worker_that_an_error_ended(store: Store) -> None:
    details = {"exception": "this machine failed 10 times in a row:\n\x00No space left on device (ENOSPC)"}
    store.apply_events([event(EventType.FATAL_EXCEPTION, instance_id="i-1", attempt=None, details=details)])
    (worker,) = store.statistics().broken_workers
    assert worker.name == "i-1"
    assert worker.reason.startswith("its worker ended: this machine failed 10 times in a row: ")


def test_reopen_failed_changes_the_tasks_that_failed_on_one_instance_only(store: Store) -> None:
    store.apply_events(
        [
            *exits(TASKS[:10], "i-1"),
            *exits(TASKS[10:12], "i-2"),
            completed(TASKS[12], instance_id="i-1"),
            event(EventType.TASK_EXITED, TASKS[13], 1, retry=True, instance_id="i-2"),
            *exits([TASKS[13]], "i-1", attempt=2),
        ]
    )
    assert store.reopen_failed("i-1") == 10
    assert store.reopen_failed("i-1") == 0
    counts = store.counts()
    assert (counts[TaskStatus.EXITED], counts[TaskStatus.COMPLETED], counts[TaskStatus.PENDING]) == (3, 1, 36)
    messages = {message.task_id: message.attempt for message in store.pending_tasks(100)}
    assert messages[TASKS[0]] == 2
    store.apply_events(exits(TASKS[:1], "i-1"))
    assert store.counts()[TaskStatus.EXITED] == 3, "an event of the earlier attempt is late"
    store.apply_events([completed(TASKS[0], 2, instance_id="i-2")])
    assert store.counts()[TaskStatus.COMPLETED] == 2


def test_reopen_failed_keeps_the_counters_equal_to_the_rows(store: Store) -> None:
    store.apply_events(exits(TASKS[:10], "i-1"))
    store.reopen_failed("i-1")
    with store._file.guard:
        counters = read_counters(store._file.connection)
        rows = store._file.connection.execute("SELECT status, count(*) FROM tasks GROUP BY status").fetchall()
    assert {f"status:{status}": count for status, count in rows} == {
        name: value for name, value in counters.items() if name.startswith("status:") and value
    }
