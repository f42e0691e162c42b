"""Preempted instances are no sign of a broken program; instances that end otherwise are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from controller_fakes import event, message, ranked

from cloud_tasks.model import EventType, JobPhase, Limits


@pytest.mark.parametrize(
    ("reported", "outcome"),
    [(EventType.SPOT_TERMINATION, JobPhase.COMPLETE), (EventType.KEEP_ALIVE, JobPhase.ABORTED)],
)
def test_instances_that_end_without_progress_end_the_job_unless_they_were_preempted(
    loop, compute, events, make_controller, reported: EventType, outcome: JobPhase
) -> None:
    offers = (ranked(spot=True),)
    controller = make_controller(offers=offers, limits=Limits(max_instances=1), max_instances_without_progress=5)

    def interrupt(number: int) -> Callable[[], None]:
        def act() -> None:
            for name in list(compute.existing):
                events.inbox.append(message(event(reported, number, instance_id=name)))
                del compute.existing[name]

        return act

    for number in range(10):
        loop.later(timedelta(seconds=90 + 120 * number), interrupt(number))
    tasks = [event(EventType.TASK_COMPLETED, 1000 + n, task=n, instance_id="i-12") for n in range(20)]
    loop.later(timedelta(minutes=30), lambda: events.inbox.append(message(*tasks)))
    assert controller.run() is outcome
