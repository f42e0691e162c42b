"""Runs whose queue refuses the controller permanently: no instance is bought, and all of them end."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta

import pytest
from controller_fakes import FakeQueue, event, message
from structlog.testing import capture_logs
from virtual_loop import START, VirtualLoop

from cloud_tasks.controller.controller import StopMode
from cloud_tasks.errors import CredentialsError, ProviderError
from cloud_tasks.model import EventType, JobPhase, Limits

REFUSED = ProviderError("permission denied", hint="grant queue.read")
HOUR = timedelta(hours=1)


def refuse(queue: FakeQueue, method: str, error: Exception) -> Callable[[], None]:
    """Make a method of a queue fail from now on; return a function that repairs it."""

    def fail(*arguments: object, **named: object) -> None:
        raise error

    setattr(queue, method, fail)
    return lambda: delattr(queue, method)


def work_all_the_time(loop: VirtualLoop, events: FakeQueue, *, running: int = 1) -> None:
    for minute in range(60):
        for number in (1, 2):
            facts = {"instance_id": f"i-{number}", "timestamp": START + timedelta(minutes=minute)}
            beat = event(EventType.KEEP_ALIVE, 10 * minute + number, details={"running_tasks": running}, **facts)
            loop.later(timedelta(minutes=minute), functools.partial(events.inbox.append, message(beat)))


def test_event_queue_that_refuses_the_controller_ends_the_run(loop, compute, events, make_controller) -> None:
    controller = make_controller()
    loop.later(timedelta(minutes=2), lambda: refuse(events, "receive", REFUSED))
    with capture_logs() as logs:
        assert controller.run() is JobPhase.ABORTED
    reason = "the event queue refuses the controller: permission denied; grant queue.read"
    assert controller.reason == reason
    assert (compute.existing, controller.all_gone) == ({}, True)
    assert timedelta(minutes=10) < loop.now() - START < timedelta(minutes=16)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == [reason]


def test_run_continues_once_its_event_queue_answers_again(loop, store, compute, queue, events, make_controller) -> None:
    repair: list[Callable[[], None]] = []
    loop.later(timedelta(minutes=2), lambda: repair.append(refuse(events, "receive", REFUSED)))
    # Sent meanwhile, and not lost.
    loop.later(timedelta(minutes=5), lambda: events.inbox.append(message(event(EventType.TASK_COMPLETED, 1, task=1))))
    assert make_controller().run() is JobPhase.ABORTED
    assert store.remaining() == 20
    repair[0]()
    rest = [message(event(EventType.TASK_COMPLETED, number + 100, task=number)) for number in range(20) if number != 1]
    loop.later(timedelta(minutes=2), lambda: events.inbox.extend(rest))
    assert make_controller().run() is JobPhase.COMPLETE
    assert (store.remaining(), compute.existing) == (0, {})
    assert len(queue.bodies) == 20


def test_event_queue_that_refuses_for_a_while_only_delays(loop, compute, events, make_controller) -> None:
    controller = make_controller()
    work_all_the_time(loop, events)
    loop.later(timedelta(minutes=2), lambda: loop.later(timedelta(minutes=8), refuse(events, "receive", REFUSED)))
    loop.later(timedelta(minutes=30), lambda: controller.stop(StopMode.TERMINATE))
    assert controller.run() is JobPhase.STOPPED
    assert len(compute.launched) == 2


@pytest.mark.parametrize(("queue_name", "method"), [("events", "receive"), ("queue", "depth")])
def test_refused_queue_stops_launches_at_once(
    request, loop, compute, events, make_controller, queue_name, method
) -> None:
    controller = make_controller(limits=Limits(max_instances=2))
    work_all_the_time(loop, events, running=0)
    repair: list[Callable[[], None]] = []

    def begin() -> None:
        repair.append(refuse(request.getfixturevalue(queue_name), method, REFUSED))
        compute.existing.clear()

    loop.later(timedelta(seconds=90), begin)
    seen: list[int] = []
    loop.later(timedelta(minutes=7), lambda: seen.append(len(compute.launched)))
    loop.later(timedelta(minutes=8), lambda: repair[0]())
    loop.later(timedelta(minutes=12), lambda: seen.append(len(compute.launched)))
    loop.later(timedelta(minutes=12), lambda: controller.stop(StopMode.TERMINATE))
    with capture_logs() as logs:
        controller.run()
    assert seen[0] == 2
    assert seen[1] > 2
    lines = [entry["event"] for entry in logs if entry["event"].startswith("No more instances are launched: the ")]
    assert len(lines) == 1
    assert lines[0].endswith("refuses the controller: permission denied; grant queue.read")


def test_credentials_that_expire_are_waited_for(loop, compute, events, make_controller) -> None:
    controller = make_controller()
    work_all_the_time(loop, events)
    loop.later(
        timedelta(minutes=2),
        lambda: loop.later(timedelta(minutes=30), refuse(events, "receive", CredentialsError("expired"))),
    )
    loop.later(timedelta(minutes=40), lambda: controller.stop(StopMode.TERMINATE))
    assert controller.run() is JobPhase.STOPPED


def test_task_queue_that_refuses_the_depth_ends_a_run_without_work(
    loop, compute, queue, events, make_controller
) -> None:
    controller = make_controller()
    work_all_the_time(loop, events, running=0)
    loop.later(timedelta(minutes=2), lambda: refuse(queue, "depth", REFUSED))
    assert controller.run() is JobPhase.ABORTED
    assert controller.reason == "the task queue refuses the controller: permission denied; grant queue.read"
    assert compute.existing == {}


@pytest.mark.parametrize("minutes", [0, 2])
def test_task_queue_that_serves_workers_may_refuse_its_depth(
    loop, compute, queue, events, make_controller, minutes
) -> None:
    controller = make_controller()
    work_all_the_time(loop, events)
    loop.later(timedelta(minutes=minutes), lambda: refuse(queue, "depth", REFUSED))
    loop.later(timedelta(minutes=40), lambda: controller.stop(StopMode.TERMINATE))
    assert controller.run() is JobPhase.STOPPED
    assert len(compute.launched) == 2


def test_task_queue_that_accepts_no_more_tasks_ends_the_run(
    loop, compute, queue, events, make_controller, monkeypatch
) -> None:
    monkeypatch.setattr("cloud_tasks.controller.messaging.enqueuer._BATCH", 5)
    controller = make_controller()
    queue.faults.append(())
    queue.faults.extend([REFUSED] * 100)
    work_all_the_time(loop, events)
    assert controller.run() is JobPhase.ABORTED
    assert controller.reason == "tasks cannot be sent to the queue: permission denied; grant queue.read"
    assert compute.existing == {}


def test_queue_that_cannot_be_created_again_ends_the_run(loop, compute, queue, events, make_controller) -> None:
    controller = make_controller()
    work_all_the_time(loop, events)

    def delete() -> None:
        queue.delete_from_outside()
        refuse(queue, "create", REFUSED)

    loop.later(timedelta(minutes=2), delete)
    assert controller.run() is JobPhase.ABORTED
    assert "permission denied; grant queue.read" in controller.reason
    assert compute.existing == {}
