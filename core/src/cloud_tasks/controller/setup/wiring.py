"""The controller of one run, put together from what was opened for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import attrs

from cloud_tasks.config import JobConfig, parallel_launches
from cloud_tasks.controller.autoscaler.fleet import Fleet
from cloud_tasks.controller.autoscaler.policy import policy_of
from cloud_tasks.controller.controller import Controller
from cloud_tasks.controller.event_loop import ThreadedLoop
from cloud_tasks.controller.launch.launch_request import LaunchRequestBuilder
from cloud_tasks.controller.messaging.enqueuer import TaskEnqueuer
from cloud_tasks.controller.messaging.event_collector import EventCollector
from cloud_tasks.controller.messaging.progress import Progress
from cloud_tasks.controller.messaging.sink_dispatcher import SinkDispatcher
from cloud_tasks.plugin import Compute, Queue
from cloud_tasks.registry import Registry
from cloud_tasks.selection import RankedOffer
from cloud_tasks.store import Store

__all__ = ["RunResources", "assemble_controller"]


@attrs.frozen(kw_only=True)
class RunResources:
    """What a run works on, to be closed after it."""

    store: Store
    compute: Compute
    tasks: Queue
    events: Queue


def assemble_controller(
    loop: ThreadedLoop,
    opened: RunResources,
    *,
    registry: Registry,
    config: JobConfig,
    job_id: str,
    offers: Sequence[RankedOffer],
    orders: LaunchRequestBuilder,
    copies: SinkDispatcher,
    on_progress: Callable[[Progress], None],
) -> Controller:
    """A controller with its feeder, collector and fleet, which tell it what they notice."""
    run = config.run
    holder: list[Controller] = []

    def collected(batch: Any) -> None:
        copies.write(batch)
        holder[0].noticed_events()

    feeder = TaskEnqueuer(
        loop,
        opened.store,
        opened.tasks,
        on_broken=lambda reason: holder[0].broken(reason),
        operations=run.max_concurrent_queue_operations,
        send_batch=registry.queue(config.queue).traits.send_batch,
    )
    fleet = Fleet(
        loop,
        opened.store,
        opened.compute,
        compose=orders.compose,
        max_parallel=parallel_launches(config),
        on_refused=lambda: holder[0].refused(),
    )
    controller = Controller(
        loop,
        opened.store,
        job_id=job_id,
        task_queue=opened.tasks,
        feeder=feeder,
        collector=EventCollector(loop, opened.store, opened.events, on_events=collected),
        fleet=fleet,
        offers=offers,
        policy=policy_of(config),
        interval=timedelta(seconds=run.scaling_check_interval),
        on_progress=on_progress,
    )
    holder.append(controller)
    return controller
