"""Machines that the provider takes away say nothing against the program; those that end otherwise do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from controller_fakes import FakeQueue, event, message, ranked

from cloud_tasks.controller.autoscaler.fleet import Fleet
from cloud_tasks.controller.autoscaler.state import Policy
from cloud_tasks.controller.controller import Controller
from cloud_tasks.controller.messaging.enqueuer import TaskEnqueuer
from cloud_tasks.controller.messaging.event_collector import EventCollector
from cloud_tasks.model import EventType, JobPhase, LaunchRequest, Limits


@pytest.mark.parametrize(
    ("told", "outcome"),
    [(EventType.SPOT_TERMINATION, JobPhase.COMPLETE), (EventType.KEEP_ALIVE, JobPhase.ABORTED)],
)
def test_many_instances_that_come_and_go_end_the_job_unless_they_were_preempted(
    loop, store, compute, told: EventType, outcome: JobPhase
) -> None:
    queue, events = FakeQueue(loop), FakeQueue(loop)
    made: list[Controller] = []

    def compose(offer, others, token) -> LaunchRequest:
        return LaunchRequest(client_token=token, job_id="job", offer=offer.offer, startup_script="", labels={})

    controller = Controller(
        loop,
        store,
        job_id="job",
        task_queue=queue,
        feeder=TaskEnqueuer(loop, store, queue, on_broken=lambda reason: made[0].broken(reason)),
        collector=EventCollector(loop, store, events, on_events=lambda _: made[0].noticed_events()),
        fleet=Fleet(loop, store, compute, compose=compose, max_parallel=10, on_refused=lambda: made[0].refused()),
        offers=(ranked(), ranked(zone="z-b")),
        policy=Policy(limits=Limits(max_instances=1), max_futile_instances=5),
        interval=timedelta(seconds=60),
    )
    made.append(controller)

    def take_away(number: int) -> Callable[[], None]:
        def act() -> None:
            for name in list(compute.machines):
                events.inbox.append(message(event(told, number, instance_id=name)))
                del compute.machines[name]

        return act

    for number in range(10):
        loop.later(timedelta(seconds=90 + 120 * number), take_away(number))
    tasks = [event(EventType.TASK_COMPLETED, 1000 + n, task=n, instance_id="i-12") for n in range(20)]
    loop.later(timedelta(minutes=30), lambda: events.inbox.append(message(*tasks)))
    assert controller.run() is outcome
