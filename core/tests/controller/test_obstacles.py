"""Runs whose database is locked, whose queues are deleted, and whose parts raise errors that nothing handles."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from controller_fakes import FakeQueue, event, message
from structlog.testing import capture_logs
from virtual_loop import START, VirtualLoop

from cloud_tasks.controller.controller import StopMode
from cloud_tasks.errors import InputError, NotFoundError, ProviderError, StoreBusyError
from cloud_tasks.model import EventType, JobPhase, Limits, Money, TaskStatus


def completed(first: int, last: int, instance: str = "i-1") -> bytes:
    return message(*(event(EventType.TASK_COMPLETED, n, task=n, instance_id=instance) for n in range(first, last)))


# -- a database that is locked ---------------------------------------------------------------------------------------


def test_run_waits_for_a_locked_database_as_long_as_it_takes(
    loop, store, events, lock, compute, make_controller
) -> None:
    controller = make_controller()
    loop.later(timedelta(seconds=5), lambda: events.inbox.append(completed(0, 10)))
    loop.later(timedelta(seconds=30), lock.hold)
    loop.later(timedelta(seconds=40), lambda: events.inbox.append(completed(10, 20)))
    states: list[tuple[int, int, int]] = []
    loop.later(timedelta(hours=2), lambda: states.append((store.remaining(), len(events.acked), len(compute.existing))))
    loop.later(timedelta(hours=2, seconds=1), lock.release)
    assert controller.run() is JobPhase.COMPLETE
    # The second message is not acked before its events are committed.
    assert states == [(10, 1, 2)]
    assert len(events.acked) == 2
    assert store.summary().counts[TaskStatus.COMPLETED] == 20
    assert store.summary().duplicates == 0
    assert (compute.existing, controller.all_gone) == ({}, True)
    assert all(record.ended_at is not None for record in store.instances())


@pytest.mark.parametrize("seconds", [0, 0.005, 0.015, 0.05, 0.5, 1, 5, 31])
def test_lock_at_any_time_leaves_the_records_right(
    loop, store, events, lock, compute, make_controller, seconds
) -> None:
    controller = make_controller()
    if seconds:
        loop.later(timedelta(seconds=seconds), lock.hold)
    else:
        lock.hold()
    loop.later(timedelta(minutes=20), lock.release)
    loop.later(timedelta(minutes=30), lambda: events.inbox.append(completed(0, 20)))
    assert controller.run() is JobPhase.COMPLETE
    assert len(compute.launched) == 2
    assert sorted(record.instance_id for record in store.instances()) == ["i-1", "i-2"]
    assert store.summary().counts[TaskStatus.COMPLETED] == 20


def test_no_instance_is_launched_during_a_lock_and_vanished_ones_are_replaced_after_it(
    loop, store, events, lock, compute, make_controller
) -> None:
    controller = make_controller()
    loop.later(timedelta(seconds=30), lock.hold)
    loop.later(timedelta(seconds=31), lambda: compute.existing.pop("i-1"))
    launched: list[int] = []
    loop.later(timedelta(minutes=60), lambda: launched.append(len(compute.launched)))
    loop.later(timedelta(minutes=61), lock.release)
    loop.later(timedelta(minutes=65), lambda: launched.append(len(compute.launched)))
    loop.later(timedelta(minutes=66), lambda: events.inbox.append(completed(0, 20, "i-2")))
    assert controller.run() is JobPhase.COMPLETE
    assert launched == [2, 3]
    assert [record.instance_id for record in store.instances()] == ["i-1", "i-2", "i-3"]


def test_cost_limit_holds_while_the_database_is_locked(loop, lock, compute, make_controller) -> None:
    limits = Limits(max_instances=2, max_total_cost=Money("1.00"))
    controller = make_controller(limits=limits, max_runtime=timedelta(minutes=10))
    loop.later(timedelta(seconds=30), lock.hold)
    started = loop.now()
    assert controller.run() is JobPhase.ABORTED
    assert "max_total_cost" in controller.reason
    assert (compute.existing, controller.all_gone) == ({}, True)
    # Two instances at $0.25 an hour.
    assert loop.now() - started < timedelta(hours=2, minutes=5)


def test_interrupt_while_the_database_is_locked_ends_the_instances_at_once(
    loop, events, lock, compute, make_controller
) -> None:
    controller = make_controller()
    loop.later(timedelta(seconds=30), lock.hold)
    loop.later(timedelta(seconds=40), lambda: events.inbox.append(completed(0, 20)))
    loop.later(timedelta(minutes=10), lambda: controller.stop(StopMode.TERMINATE))
    gone: list[dict[str, object]] = []
    loop.later(timedelta(minutes=10, seconds=2), lambda: gone.append(dict(compute.existing)))
    started = loop.now()
    with capture_logs() as logged:
        assert controller.run() is JobPhase.STOPPED
    assert gone == [{}]
    assert loop.now() - started < timedelta(minutes=10, seconds=30)
    assert events.acked == []
    assert any("could not be written to the job database" in line["event"] for line in logged)


def test_locked_database_is_reported_once(loop, events, lock, make_controller) -> None:
    controller = make_controller()
    loop.later(timedelta(seconds=30), lock.hold)
    loop.later(timedelta(seconds=40), lambda: events.inbox.append(completed(0, 20)))
    loop.later(timedelta(hours=1), lock.release)
    with capture_logs() as logged:
        controller.run()
    about = [line["event"] for line in logged if line["log_level"] == "warning" and "database" in line["event"]]
    assert len(about) == 2
    assert "locked by another program" in about[0]
    assert "can be used again" in about[1]


# -- queues that are deleted -----------------------------------------------------------------------------------------


def test_deleted_queues_are_created_again_and_their_tasks_sent_again(
    loop, store, queue, events, compute, make_controller
) -> None:
    controller = make_controller()
    loop.later(timedelta(seconds=5), lambda: events.inbox.append(completed(0, 5)))

    def delete() -> None:
        queue.delete_from_outside()
        events.delete_from_outside()

    loop.later(timedelta(seconds=20), delete)
    sent: list[int] = []
    loop.later(timedelta(seconds=25), lambda: sent.append(len(queue.bodies)))
    loop.later(timedelta(seconds=30), lambda: events.inbox.append(completed(5, 20)))
    assert controller.run() is JobPhase.COMPLETE
    assert sent == [15]
    assert (queue.created, events.created) == (1, 1)
    assert store.summary().counts[TaskStatus.COMPLETED] == 20


def test_deleted_task_queue_alone_is_noticed_by_the_next_pass(loop, store, queue, events, make_controller) -> None:
    controller = make_controller()
    loop.later(timedelta(seconds=20), queue.delete_from_outside)
    sent: list[int] = []
    loop.later(timedelta(seconds=80), lambda: sent.append(len(queue.bodies)))
    loop.later(timedelta(seconds=90), lambda: events.inbox.append(completed(0, 20)))
    assert controller.run() is JobPhase.COMPLETE
    assert sent == [20]


def test_queue_that_is_deleted_while_tasks_are_sent_is_created_again(loop, queue, events, make_controller) -> None:
    controller = make_controller()
    queue.delete_from_outside()
    loop.later(timedelta(seconds=30), lambda: events.inbox.append(completed(0, 20)))
    assert controller.run() is JobPhase.COMPLETE
    assert len(queue.bodies) == 20


def test_queue_that_cannot_be_created_at_once_is_tried_again(loop, queue, events, make_controller) -> None:
    controller = make_controller()
    create = events.create
    refusals = [ProviderError("deleted recently", transient=True)] * 3

    def refuse() -> None:
        if refusals:
            raise refusals.pop()
        create()

    events.create = refuse
    loop.later(timedelta(seconds=20), events.delete_from_outside)
    loop.later(timedelta(seconds=90), lambda: events.inbox.append(completed(0, 20)))
    assert controller.run() is JobPhase.COMPLETE
    assert not refusals


def test_run_whose_queues_are_deleted_again_and_again_ends_with_its_instances(
    loop, queue, events, compute, make_controller
) -> None:
    controller = make_controller()
    for minute in range(1, 10):
        loop.later(timedelta(minutes=minute), events.delete_from_outside)
    assert controller.run() is JobPhase.ABORTED
    assert "deleted 4 times" in controller.reason
    assert events.created == 3
    assert (compute.existing, controller.all_gone) == ({}, True)


def test_run_whose_queue_can_never_be_created_again_ends_with_its_instances(
    loop, queue, events, compute, make_controller
) -> None:
    controller = make_controller()

    def refuse() -> None:
        raise InputError("the folder was renamed")

    events.create = refuse
    loop.later(timedelta(minutes=1), events.delete_from_outside)
    assert controller.run() is JobPhase.ABORTED
    assert controller.reason == "the folder was renamed"
    assert (compute.existing, controller.all_gone) == ({}, True)


class Settling:
    """Queue whose creation takes minutes to be known: until then it is not found, by some calls or by all.

    Args:
        exists: Whether `exists` knows it all the time.
    """

    def __init__(self, queue: FakeQueue, loop: VirtualLoop, *, exists: bool) -> None:
        self._queue, self._loop, self._exists = queue, loop, exists
        for name in ("send", "receive", "depth"):
            setattr(queue, name, self._unsettled(getattr(queue, name)))
        known = queue.exists
        queue.exists = lambda: (exists or self.is_settled) and known()  # type: ignore[method-assign]

    @property
    def is_settled(self) -> bool:
        return self._loop.now() > START + timedelta(minutes=4)

    def _unsettled(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not self.is_settled:
                raise NotFoundError("no such queue")
            return method(*args, **kwargs)

        return call


@pytest.mark.parametrize("exists", [True, False])
def test_new_queues_that_are_not_found_for_minutes_are_waited_for(
    loop, store, queue, events, make_controller, exists
) -> None:
    for each in (queue, events):
        Settling(each, loop, exists=exists)
    controller = make_controller()
    loop.later(timedelta(minutes=7), lambda: events.inbox.append(completed(0, 20)))
    assert controller.run() is JobPhase.COMPLETE
    assert len(queue.bodies) == 20


# -- errors that no part handles -------------------------------------------------------------------------------------


class BrokenError(Exception):
    """A defect."""


def explode() -> None:
    raise BrokenError("a defect")


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("seconds", [0, 0.01, 1, 30, 61])
def test_error_of_a_callback_terminates_all_instances(loop, compute, make_controller, seconds, times) -> None:
    controller = make_controller()
    for n in range(times):
        loop.later(timedelta(seconds=seconds + n * 0.01), explode)
    assert controller.run() is JobPhase.ABORTED
    assert isinstance(controller.error, BrokenError)
    assert (compute.existing, controller.all_gone) == ({}, True)
    assert controller.instances_left() == ()


def test_error_of_a_callback_leaves_the_instances_where_the_user_chose_so(loop, compute, make_controller) -> None:
    controller = make_controller(on_error=StopMode.LEAVE)
    loop.later(timedelta(seconds=30), explode)
    assert controller.run() is JobPhase.LEFT
    assert isinstance(controller.error, BrokenError)
    assert len(compute.existing) == 2


def test_error_after_the_user_chose_to_leave_the_instances_leaves_them(loop, compute, make_controller) -> None:
    controller = make_controller()
    loop.later(timedelta(seconds=30), lambda: controller.stop(StopMode.LEAVE))
    loop.later(timedelta(seconds=30), explode)
    assert controller.run() is JobPhase.LEFT
    assert len(compute.existing) == 2


def test_error_during_the_termination_does_not_prevent_it(loop, compute, make_controller) -> None:
    controller = make_controller()
    loop.later(timedelta(seconds=30), lambda: controller.stop(StopMode.TERMINATE))
    loop.later(timedelta(seconds=30.015), explode)
    assert controller.run() is JobPhase.ABORTED
    assert (compute.existing, controller.all_gone) == ({}, True)


def test_error_of_progress_reporting_terminates_all_instances(loop, compute, make_controller) -> None:
    controller = make_controller(on_progress=lambda progress: explode())
    assert controller.run() is JobPhase.ABORTED
    assert compute.existing == {}


def test_error_that_never_stops_is_raised(loop, compute, make_controller) -> None:
    controller = make_controller()

    def explode_for_ever() -> None:
        loop.later(timedelta(0), explode_for_ever)
        explode()

    loop.later(timedelta(seconds=30), explode_for_ever)
    with pytest.raises(BrokenError):
        controller.run()


def test_obstacle_while_progress_is_read_skips_one_pass(loop, events, make_controller) -> None:
    failures = [StoreBusyError("locked")]

    def show(progress: object) -> None:
        if failures:
            raise failures.pop()

    controller = make_controller(on_progress=show)
    loop.later(timedelta(seconds=90), lambda: events.inbox.append(completed(0, 20)))
    assert controller.run() is JobPhase.COMPLETE
