"""What the controller does with tasks: sending, sending again, losing, reopening, exporting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_facts import at, completed, failed, instance, launch_request, new_store, started

from cloud_tasks.model import AttemptOutcome, Task, TaskMessage, TaskStatus
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


def test_pending_tasks_come_in_order_until_they_are_marked(store: Store) -> None:
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


def test_what_was_not_marked_is_pending_after_a_restart(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b"]) as store:
        store.pending_tasks(10)
        store.mark_queued(["a"])
    with Store.open(tmp_path / "job.db") as store:
        assert pending(store) == ["b"]


def test_a_mark_that_an_event_overtook_changes_nothing(store: Store) -> None:
    store.apply_events([started("a"), completed("b")])
    assert store.mark_queued(["a", "b", "c"]) == 1
    assert status(store, "a") is TaskStatus.RUNNING
    assert status(store, "b") is TaskStatus.COMPLETED


def test_a_task_sent_twice_counts_once(store: Store) -> None:
    # The controller died between sending and marking: both copies run.
    store.apply_events([started("a"), started("a", hostname="h2"), completed("a"), completed("a", hostname="h2")])
    assert store.summary().finished_tasks == 1
    assert len(store.attempts("a")) == 2


def test_a_new_queue_gets_every_unfinished_task_again_under_its_next_attempt(store: Store) -> None:
    store.mark_queued(["a", "b", "c"])
    store.apply_events([completed("a"), started("b"), started("c"), failed("c", retry=True)])
    assert store.reset_for_requeue() == 3
    messages = {message.task_id: (message.attempt, message.losses) for message in store.pending_tasks(10)}
    assert messages == {"b": (1, 1), "c": (2, 0), "d": (1, 0)}
    assert [attempt.outcome for attempt in store.attempts("b")] == [AttemptOutcome.LOST]
    assert store.summary().losses == 1
    assert store.summary().counts[TaskStatus.PENDING] == 3


def test_a_run_taken_for_lost_that_ends_after_all_is_believed(store: Store) -> None:
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
    assert (attempt.outcome, attempt.reason) == (AttemptOutcome.LOST, "its instance ended")
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


def test_failed_tasks_can_be_given_a_new_pass(store: Store) -> None:
    store.apply_events([failed("a"), completed("b"), failed("c", 2)])
    assert store.reopen_tasks([TaskStatus.FAILED, TaskStatus.DEAD]) == 2
    assert [(m.task_id, m.attempt) for m in store.pending_tasks(10)] == [("a", 3), ("c", 3), ("d", 1)]
    assert store.earlier_attempts() == 2
    assert store.summary().finished_tasks == 1
    store.apply_events([completed("a", 3)])
    assert status(store, "a") is TaskStatus.COMPLETED


@pytest.mark.parametrize("given", [TaskStatus.COMPLETED, TaskStatus.RUNNING, TaskStatus.PENDING])
def test_only_tasks_that_ended_badly_can_be_given_a_new_pass(store: Store, given: TaskStatus) -> None:
    with pytest.raises(ValueError, match="only tasks that ended without completing"):
        store.reopen_tasks([given])


def test_tasks_are_exported_by_status_as_they_were_loaded(store: Store) -> None:
    store.apply_events([completed("c"), failed("b")])
    assert list(store.export_tasks([TaskStatus.FAILED])) == [Task(task_id="b", data={"of": "b"})]
    assert [task.task_id for task in store.export_tasks(TaskStatus)] == ["a", "b", "c", "d"]
    assert [message.task_id for message in store.unfinished()] == ["a", "d"]


def test_an_export_goes_on_while_events_are_applied(store: Store) -> None:
    exported = store.export_tasks([TaskStatus.PENDING])
    assert next(exported).task_id == "a"
    store.apply_events([completed("b"), completed("c")])
    assert [task.task_id for task in exported] == ["b", "c", "d"]


def test_an_unknown_task_has_no_status_and_no_history(store: Store) -> None:
    assert store.task("nobody") is None
    assert store.attempts("nobody") == ()
