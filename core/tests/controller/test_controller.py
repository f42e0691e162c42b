"""Whole runs of the controller under a virtual clock, with workers played by the test."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import attrs
import pytest
from controller_fakes import FakeQueue, event, message, ranked, refusal

from cloud_tasks.controller.collect import Collector
from cloud_tasks.controller.controller import Controller, Outcome, StopMode
from cloud_tasks.controller.feed import Feeder
from cloud_tasks.controller.fleet import Fleet
from cloud_tasks.controller.observation import Policy
from cloud_tasks.model import EventType, LaunchRequest, Limits


@pytest.fixture
def events(loop) -> FakeQueue:
    return FakeQueue(loop)


@pytest.fixture
def make(loop, store, queue, events, compute) -> Callable[..., Controller]:
    """Make a controller over the fakes; its policy can be changed."""

    def build(**policy: object) -> Controller:
        made: list[Controller] = []

        def compose(offer, others, token) -> LaunchRequest:
            return LaunchRequest(client_token=token, job_id="job", offer=offer.offer, startup_script="", labels={})

        fleet = Fleet(loop, store, compute, compose=compose, max_parallel=10, on_refused=lambda: made[0].refused())
        controller = Controller(
            loop,
            store,
            job_id="job",
            task_queue=queue,
            feeder=Feeder(loop, store, queue, on_broken=lambda reason: made[0].broken(reason)),
            collector=Collector(loop, store, events, on_events=lambda _: made[0].noticed_events()),
            fleet=fleet,
            offers=(ranked(), ranked(zone="z-b")),
            policy=Policy(limits=Limits(max_instances=2), **policy),  # type: ignore[arg-type]
            interval=timedelta(seconds=60),
        )
        made.append(controller)
        return controller

    return build


def finish_all_tasks(events: FakeQueue, instance: str = "i-1") -> None:
    events.inbox.append(message(*(event(EventType.TASK_COMPLETED, n, task=n, instance_id=instance) for n in range(20))))


def keep_alive(instance: str, number: int) -> bytes:
    return message(event(EventType.KEEP_ALIVE, number, instance_id=instance))


def test_a_job_ends_complete_with_nothing_left_running(loop, store, compute, events, make) -> None:
    controller = make()
    loop.later(timedelta(seconds=5), lambda: finish_all_tasks(events))
    assert controller.run() is JobPhase.COMPLETE
    assert controller.all_gone
    assert compute.machines == {}
    assert store.summary().finished
    assert all(record.ended_at is not None for record in store.instances())


def test_the_end_does_not_wait_for_the_next_look(loop, events, make) -> None:
    controller = make()
    begun = loop.now()
    loop.later(timedelta(seconds=5), lambda: finish_all_tasks(events))
    controller.run()
    assert loop.now() - begun < timedelta(seconds=15)


def test_a_refused_zone_is_left_for_the_next_at_once(loop, compute, events, make) -> None:
    compute.faults.append(refusal())
    controller = make()
    loop.later(timedelta(seconds=5), lambda: finish_all_tasks(events))
    controller.run()
    assert [request.offer.zone for request in compute.launched] == ["z-a", "z-b", "z-b"]


def test_a_machine_that_vanishes_is_replaced_and_its_tasks_are_not_forgotten(
    loop, store, compute, events, make
) -> None:
    controller = make()
    started = message(event(EventType.TASK_STARTED, 100, task=0, instance_id="i-1"))
    loop.later(timedelta(seconds=5), lambda: events.inbox.append(started))
    loop.later(timedelta(seconds=50), lambda: compute.machines.pop("i-1"))
    loop.later(timedelta(seconds=200), lambda: finish_all_tasks(events, "i-2"))
    assert controller.run() is JobPhase.COMPLETE
    assert len(compute.launched) == 3
    assert store.summary().losses == 1


def test_a_failed_listing_never_leads_to_a_second_fleet(loop, compute, events, make) -> None:
    controller = make()

    def fail() -> None:
        compute.listing_fails = True

    def recover() -> None:
        compute.listing_fails = False

    loop.later(timedelta(seconds=20), lambda: events.inbox.append(keep_alive("i-1", 900)))
    loop.later(timedelta(seconds=20), lambda: events.inbox.append(keep_alive("i-2", 901)))
    loop.later(timedelta(seconds=30), fail)
    loop.later(timedelta(seconds=600), recover)
    loop.later(timedelta(seconds=700), lambda: finish_all_tasks(events))
    assert controller.run() is JobPhase.COMPLETE
    assert len(compute.launched) == 2


def test_a_broken_startup_script_ends_the_job_with_its_console_log(compute, make) -> None:
    controller = make(startup_timeout=timedelta(minutes=3))
    assert controller.run() is JobPhase.ABORTED
    assert "startup script" in controller.reason
    assert controller.console_log.startswith("console of i-")
    assert compute.machines == {}


def test_a_stranger_with_our_label_is_terminated(loop, compute, events, make) -> None:
    compute.before_launch = lambda request: None
    controller = make()

    def intrude() -> None:
        (known, *_) = compute.machines.values()
        compute.machines["i-99"] = attrs.evolve(known, instance_id="i-99", client_token="stranger")

    loop.later(timedelta(seconds=30), intrude)
    gone: list[bool] = []
    loop.later(timedelta(seconds=90), lambda: gone.append("i-99" not in compute.machines))
    loop.later(timedelta(seconds=95), lambda: finish_all_tasks(events))
    controller.run()
    assert gone == [True]


def test_stopping_terminates_and_leaving_does_not(loop, compute, make) -> None:
    controller = make()
    loop.later(timedelta(seconds=30), lambda: controller.stop(StopMode.LEAVE))
    assert controller.run() is JobPhase.LEFT
    assert len(compute.machines) == 2


def test_stopping_terminates_everything(loop, compute, make) -> None:
    controller = make()
    loop.later(timedelta(seconds=30), lambda: controller.stop(StopMode.TERMINATE))
    assert controller.run() is JobPhase.STOPPED
    assert compute.machines == {}
    assert controller.instances_left() == ()


def test_terminate_after_leave_terminates_while_the_last_events_are_read(loop, compute, make) -> None:
    controller = make()
    answers: list[bool] = []

    def interrupt() -> None:
        answers.append(controller.stop(StopMode.LEAVE))
        answers.append(controller.stop(StopMode.LEAVE))
        assert controller.instances_left() == ("i-1", "i-2")
        answers.append(controller.stop(StopMode.TERMINATE))

    loop.later(timedelta(seconds=30), interrupt)
    assert controller.run() is JobPhase.STOPPED
    assert answers == [True, False, True]
    assert (compute.machines, controller.all_gone) == ({}, True)


def test_terminate_after_a_run_that_left_its_instances_is_over_changes_nothing(loop, compute, make) -> None:
    controller = make()
    loop.later(timedelta(seconds=30), lambda: controller.stop(StopMode.LEAVE))
    assert controller.run() is JobPhase.LEFT
    assert controller.stop(StopMode.TERMINATE) is False
    loop.run_for(timedelta(minutes=1))
    assert (controller.outcome, len(compute.machines)) == (JobPhase.LEFT, 2)


def test_an_end_under_way_is_changed_by_no_stop_and_shows_what_is_left(loop, compute, events, make) -> None:
    controller = make()
    answers: list[bool] = []

    def interrupt() -> None:
        assert controller.ending is JobPhase.COMPLETE
        answers.extend(controller.stop(mode) for mode in StopMode)
        assert controller.instances_left() == ("i-1", "i-2")
        compute.listing_fails = False

    def fail() -> None:
        compute.listing_fails = True
        finish_all_tasks(events)

    loop.later(timedelta(seconds=5), fail)
    loop.later(timedelta(seconds=30), interrupt)
    assert controller.run() is JobPhase.COMPLETE
    assert answers == [False, False]
    assert controller.instances_left() == ()


def test_a_stop_while_the_console_of_an_aborted_job_is_read_leaves_the_job_aborted(loop, compute, make) -> None:
    controller = make(startup_timeout=timedelta(minutes=3))
    answers: list[bool] = []

    def console_log(instance_id: str) -> str:
        loop.post(lambda: answers.append(controller.stop(StopMode.LEAVE)))
        return "console"

    compute.console_log = console_log
    assert controller.run() is JobPhase.ABORTED
    assert (answers, controller.console_log, compute.machines) == ([False], "console", {})
