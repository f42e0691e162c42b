"""Task enqueuer: marks accepted tasks only, and retries the others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta

import pytest
from virtual_loop import VirtualLoop

from cloud_tasks.controller.messaging.enqueuer import TaskEnqueuer
from cloud_tasks.errors import InputError, NotFoundError, ProviderError
from cloud_tasks.model import TaskStatus
from cloud_tasks.plugin import SendFailure
from cloud_tasks.store import Store


def feeder(loop: VirtualLoop, store: Store, queue: object, broken: list[str]) -> TaskEnqueuer:
    return TaskEnqueuer(loop, store, queue, on_broken=broken.append)  # type: ignore[arg-type]


def sent(queue: object) -> list[str]:
    return [json.loads(body)["task_id"] for body in queue.bodies]  # type: ignore[attr-defined]


def test_enqueuer_sends_every_task_once_in_order(loop, store, queue) -> None:
    broken: list[str] = []
    feed = feeder(loop, store, queue, broken)
    feed.start()
    loop.run(lambda: feed.done)
    assert sent(queue) == [f"task-{number}" for number in range(20)]
    assert store.summary().counts[TaskStatus.QUEUED] == 20


def test_enqueuer_marks_accepted_tasks_only_and_retries_the_others(loop, store, queue) -> None:
    broken: list[str] = []
    queue.faults.append([SendFailure(index=3, reason="busy")])
    feed = feeder(loop, store, queue, broken)
    feed.start()
    loop.run_for(timedelta(milliseconds=100))
    assert store.summary().counts[TaskStatus.PENDING] == 1
    loop.run(lambda: feed.done)
    assert sorted(sent(queue)) == sorted(f"task-{number}" for number in range(20))
    assert broken == []


def test_enqueuer_retries_during_an_outage(loop, store, queue) -> None:
    broken: list[str] = []
    queue.faults.extend(ProviderError("503", transient=True) for _ in range(5))
    feed = feeder(loop, store, queue, broken)
    feed.start()
    loop.run(lambda: feed.done)
    assert len(sent(queue)) == 20
    assert broken == []


def test_enqueuer_names_a_task_that_can_never_be_sent(loop, store, queue) -> None:
    broken: list[str] = []
    queue.faults.append([SendFailure(index=7, reason="300000 bytes, the limit is 262144", transient=False)])
    feed = feeder(loop, store, queue, broken)
    feed.start()
    loop.run(lambda: bool(broken))
    assert broken == ['the queue refused task "task-7": 300000 bytes, the limit is 262144']
    assert not feed.done


def test_enqueuer_sends_again_after_a_crash_before_the_mark(loop, store, queue) -> None:
    broken: list[str] = []
    first = feeder(loop, store, queue, broken)
    first.start()  # sent, not marked: the crash comes before the answer
    again = VirtualLoop()
    second = feeder(again, store, queue, broken)
    second.start()
    again.run(lambda: second.done)
    assert set(sent(queue)) == {f"task-{number}" for number in range(20)}
    assert len(sent(queue)) == 40


def test_enqueuer_sends_several_batches_at_a_time_and_waits_for_all(loop, store, queue, monkeypatch) -> None:
    monkeypatch.setattr("cloud_tasks.controller.messaging.enqueuer._BATCH", 4)
    sizes: list[int] = []
    send = queue.send

    def counted(bodies: Sequence[bytes]) -> Sequence[SendFailure]:
        sizes.append(len(bodies))
        return send(bodies)

    monkeypatch.setattr(queue, "send", counted)
    broken: list[str] = []
    feed = TaskEnqueuer(loop, store, queue, on_broken=broken.append, operations=8, send_batch=1)
    feed.start()
    assert sizes == [4, 4]  # eight messages at a time, before the first answer
    queue.faults.append([SendFailure(index=0, reason="busy")])
    loop.run(lambda: feed.done)
    assert sorted(sent(queue)) == sorted(f"task-{number}" for number in range(20))
    assert store.summary().counts[TaskStatus.QUEUED] == 20


def test_enqueuer_sends_nothing_after_a_stop(loop, store, queue, monkeypatch) -> None:
    monkeypatch.setattr("cloud_tasks.controller.messaging.enqueuer._BATCH", 5)
    broken: list[str] = []
    feed = TaskEnqueuer(loop, store, queue, on_broken=broken.append, operations=5, send_batch=1)
    feed.start()
    feed.stop()
    assert not feed.done
    loop.run(lambda: feed.done)
    feed.start()
    assert len(sent(queue)) == 5
    assert store.summary().counts[TaskStatus.PENDING] == 15


LATER = (
    ProviderError("credentials expired"),
    ProviderError("permission denied"),
    NotFoundError("no such queue"),
    KeyError("a defect of a plugin"),
)


@pytest.mark.parametrize("error", LATER, ids=repr)
def test_enqueuer_continues_after_any_error_once_a_task_was_accepted(loop, store, queue, monkeypatch, error) -> None:
    monkeypatch.setattr("cloud_tasks.controller.messaging.enqueuer._BATCH", 5)
    broken: list[str] = []
    queue.faults.extend([(), *[error] * 5])
    feed = TaskEnqueuer(loop, store, queue, on_broken=broken.append, operations=5, send_batch=1)
    feed.start()
    loop.run(lambda: feed.done or bool(broken))
    assert (len(sent(queue)), broken) == (20, [])


@pytest.mark.parametrize("error", [ProviderError("permission denied"), InputError("no project"), KeyError("a defect")])
def test_enqueuer_gives_up_after_a_first_error_that_is_not_transient(loop, store, queue, error) -> None:
    broken: list[str] = []
    queue.faults.append(error)
    feeder(loop, store, queue, broken).start()
    loop.run(lambda: bool(broken))
    assert str(error) in broken[0]


def test_enqueuer_gives_up_after_invalid_input_although_tasks_were_accepted(loop, store, queue, monkeypatch) -> None:
    monkeypatch.setattr("cloud_tasks.controller.messaging.enqueuer._BATCH", 5)
    broken: list[str] = []
    queue.faults.extend([(), InputError("no project")])
    TaskEnqueuer(loop, store, queue, on_broken=broken.append, operations=5, send_batch=1).start()
    loop.run(lambda: bool(broken))
    assert "no project" in broken[0]


@pytest.mark.parametrize(("minutes", "is_found"), [(5, True), (15, False)])
def test_enqueuer_waits_some_minutes_for_a_new_queue_to_be_found(loop, store, queue, minutes, is_found) -> None:
    broken: list[str] = []
    queue.delete_from_outside()
    loop.later(timedelta(minutes=minutes), queue.create)
    feed = feeder(loop, store, queue, broken)
    feed.start()
    loop.run(lambda: feed.done or bool(broken))
    assert (len(sent(queue)), bool(broken)) == ((20, False) if is_found else (0, True))
