"""Changes of tasks by the controller: queueing, requeueing, interruption, reopening, export."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_facts import at, completed, event, failed, instance, launch_request, new_store, started

from cloud_tasks.model import AttemptOutcome, EventType, Task, TaskMessage, TaskStatus
from cloud_tasks.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path, ["a", "b", "c", "d"]) as store:
        yield store


def pending(store: Store) -> list[str]:
    return [message.task_id for message in store.pending_tasks(100)]


def status(store: Store, task_id: str) -> TaskStatus:
    found = store.task(task_id)
    assert found is not None
    return found[1]


def test_pending_tasks_returns_tasks_in_order_until_they_are_marked(store: Store) -> None:
    assert store.pending_tasks(2) == [
        TaskMessage(task_id="a", data={"of": "a"}),
        TaskMessage(task_id="b", data={"of": "b"}),
    ]
    assert [message.task_id for message in store.pending_tasks(2)] == ["a", "b"]
    assert store.mark_queued(["a"]) == 1
    assert pending(store) == ["b", "c", "d"]
    assert store.mark_queued(["b", "d", "unknown"]) == 2
    assert pending(store) == ["c"]
    assert store.mark_queued(["c", "a"]) == 1
    assert pending(store) == []
    assert store.summary().counts[TaskStatus.QUEUED] == 4


def test_unmarked_tasks_are_pending_after_a_restart(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b"]) as store:
        store.pending_tasks(10)
        store.mark_queued(["a"])
    with Store.open(tmp_path / "job.db") as store:
        assert pending(store) == ["b"]


def test_mark_queued_leaves_tasks_with_events_unchanged(store: Store) -> None:
    store.apply_events([started("a"), completed("b")])
    assert store.mark_queued(["a", "b", "c"]) == 1
    assert status(store, "a") is TaskStatus.RUNNING
    assert status(store, "b") is TaskStatus.COMPLETED


def test_task_sent_twice_counts_once(store: Store) -> None:
    # The controller crashed between sending and marking: both messages are executed.
    store.apply_events([started("a"), started("a", hostname="h2"), completed("a"), completed("a", hostname="h2")])
    assert store.summary().finished_tasks == 1
    assert len(store.attempts("a")) == 2


def test_reset_for_requeue_makes_every_unfinished_task_pending(store: Store) -> None:
    store.mark_queued(["a", "b", "c"])
    store.apply_events([completed("a"), started("b"), started("c"), failed("c", retry=True)])
    assert store.reset_for_requeue() == 3
    messages = {message.task_id: (message.attempt, message.losses) for message in store.pending_tasks(10)}
    assert messages == {"b": (1, 1), "c": (2, 0), "d": (1, 0)}
    assert [attempt.outcome for attempt in store.attempts("b")] == [AttemptOutcome.LOST]
    assert store.summary().losses == 1
    assert store.summary().counts[TaskStatus.PENDING] == 3


def test_reset_for_requeue_counts_the_tasks_that_another_program_left(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b", "c", "d"]) as store:
        store.apply_events([completed("a")])
        with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("DELETE FROM tasks WHERE task_id IN ('b', 'c')")
        assert store.remaining() == 3
        assert store.reset_for_requeue() == 1
        assert (store.remaining(), store.summary().total) == (1, 2)
        store.apply_events([completed("d")])
        assert store.summary().finished


def test_end_event_after_reset_for_requeue_is_applied(store: Store) -> None:
    store.apply_events([started("a")])
    store.reset_for_requeue()
    store.apply_events([completed("a", timestamp=at(9))])
    assert status(store, "a") is TaskStatus.COMPLETED
    assert [attempt.outcome for attempt in store.attempts("a")] == [AttemptOutcome.COMPLETED]


def test_record_ended_requeues_the_tasks_of_the_instance(store: Store) -> None:
    store.apply_events([started("a"), started("b"), completed("b"), started("c", instance_id="i2", hostname="h2")])
    assert store.record_ended("i1", at(60), "preempted") == 1
    assert status(store, "a") is TaskStatus.QUEUED
    assert status(store, "c") is TaskStatus.RUNNING
    (attempt,) = store.attempts("a")
    assert (attempt.outcome, attempt.reason) == (AttemptOutcome.LOST, "instance terminated")
    assert store.record_ended("i1", at(60), "preempted") == 0
    assert store.record_ended("unknown", at(60), "preempted") == 0
    assert store.summary().losses == 1


def test_record_ended_is_one_transaction_with_the_requeue(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.record_intents([launch_request("t1")], at(0), slots=1)
    store.record_launched("t1", instance("i1", "t1"))
    store.apply_events([started("a")])

    def killed(*_: object) -> int:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("cloud_tasks.store.write.tasks.lose_instance", killed)
        with pytest.raises(SystemExit):
            store.record_ended("i1", at(60), "preempted")
    # An instance that still counts as living is found missing again, so that its tasks cannot stay running for ever.
    assert [record.ended_at for record in store.instances()] == [None]
    assert status(store, "a") is TaskStatus.RUNNING
    assert store.record_ended("i1", at(60), "preempted") == 1
    assert [record.ended_at for record in store.instances()] == [at(60)]
    assert status(store, "a") is TaskStatus.QUEUED


def test_record_ended_keeps_a_task_that_runs_on_another_instance_too(store: Store) -> None:
    store.apply_events([started("a"), started("a", instance_id="i2", hostname="h2")])
    assert store.record_ended("i1", at(60), "preempted") == 0
    assert status(store, "a") is TaskStatus.RUNNING


def test_reopen_tasks_starts_a_new_pass_of_failed_tasks(store: Store) -> None:
    store.apply_events([failed("a"), completed("b"), failed("c", 2)])
    assert store.reopen_tasks([TaskStatus.FAILED, TaskStatus.DEAD]) == 2
    assert [(m.task_id, m.attempt) for m in store.pending_tasks(10)] == [("a", 3), ("c", 3), ("d", 1)]
    assert store.earlier_attempts() == 2
    assert store.summary().finished_tasks == 1
    store.apply_events([completed("a", 3)])
    assert status(store, "a") is TaskStatus.COMPLETED


@pytest.mark.parametrize("given", [TaskStatus.COMPLETED, TaskStatus.RUNNING, TaskStatus.PENDING])
def test_reopen_tasks_refuses_completed_and_unfinished_tasks(store: Store, given: TaskStatus) -> None:
    with pytest.raises(ValueError, match="only failed, timed-out, exited and dead tasks"):
        store.reopen_tasks([given])


def test_export_tasks_yields_tasks_as_loaded_by_status(store: Store) -> None:
    store.apply_events([completed("c"), failed("b")])
    assert list(store.export_tasks([TaskStatus.FAILED])) == [Task(task_id="b", data={"of": "b"})]
    assert [task.task_id for task in store.export_tasks(TaskStatus)] == ["a", "b", "c", "d"]
    assert [message.task_id for message in store.unfinished()] == ["a", "d"]


def test_export_tasks_reads_one_snapshot(store: Store) -> None:
    exported = store.export_tasks([TaskStatus.PENDING])
    assert next(exported).task_id == "a"
    store.apply_events([completed("b"), completed("c")])
    assert [task.task_id for task in exported] == ["b", "c", "d"]


def test_unknown_task_has_no_status_and_no_attempts(store: Store) -> None:
    assert store.task("unknown") is None
    assert store.attempts("unknown") == ()


def test_withdraw_lasts_until_reset_for_requeue(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b", "c"]) as store:
        store.mark_queued(["a", "b", "c"])
        store.apply_events([started("a")])
        assert store.withdraw() == 2
        assert store.counts()[TaskStatus.PENDING] == 2
        assert store.counts()[TaskStatus.RUNNING] == 1
    with Store.open(tmp_path / "job.db", durable=False) as store:
        assert store.withdrawn()
        assert store.reset_for_requeue() == 3
        assert not store.withdrawn()


def test_reopen_tasks_gives_all_tasks_one_attempt_number(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b", "c"]) as store:
        dead = [event(EventType.TASK_DEAD, "a", 3, retry=False), event(EventType.TASK_DEAD, "b", 1, retry=False)]
        store.apply_events(dead)
        store.reopen_tasks([TaskStatus.DEAD])
        assert [message.attempt for message in store.pending_tasks(10)] == [4, 4, 1]
        assert store.earlier_attempts() == 3


def test_reopen_tasks_resets_interruptions(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a"]) as store:
        store.apply_events([started("a"), event(EventType.TASK_RELEASED, "a")])
        assert [message.losses for message in store.unfinished()] == [1]
        store.apply_events([started("a"), event(EventType.TASK_DEAD, "a", retry=False)])
        assert store.reopen_tasks([TaskStatus.DEAD]) == 1
        (message,) = store.pending_tasks(10)
        assert (message.losses, message.attempt) == (0, 2)
        assert store.summary().losses == 1
