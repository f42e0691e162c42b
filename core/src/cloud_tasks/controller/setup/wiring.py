"""Wiring of a run's controller: its parts, made from a configuration and the opened resources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import attrs

from cloud_tasks.config import JobConfig, parallel_launches
from cloud_tasks.controller.autoscaler.fleet import Fleet
from cloud_tasks.controller.autoscaler.policy import own_end_of, policy_of
from cloud_tasks.controller.controller import Controller, StopMode
from cloud_tasks.controller.deferred_writes import DeferredWrites
from cloud_tasks.controller.event_loop import ThreadedLoop
from cloud_tasks.controller.launch.launch_request import LaunchRequestBuilder
from cloud_tasks.controller.messaging.enqueuer import TaskEnqueuer
from cloud_tasks.controller.messaging.event_collector import EventCollector
from cloud_tasks.controller.messaging.progress import Progress
from cloud_tasks.controller.messaging.sink_dispatcher import SinkDispatcher
from cloud_tasks.controller.setup.credentials_end import reader_of_credentials_end
from cloud_tasks.controller.setup.offers import current_prices, price_interval
from cloud_tasks.plugin import Compute, Queue
from cloud_tasks.registry import Registry
from cloud_tasks.selection import RankedOffer
from cloud_tasks.store import Store

__all__ = ["RunResources", "assemble_controller"]


@attrs.frozen(kw_only=True)
class RunResources:
    """Store and backends of a run."""

    store: Store
    compute: Compute
    tasks: Queue
    events: Queue


def assemble_controller(
    loop: ThreadedLoop,
    resources: RunResources,
    *,
    registry: Registry,
    config: JobConfig,
    job_id: str,
    offers: Sequence[RankedOffer],
    requests: LaunchRequestBuilder,
    sinks: SinkDispatcher,
    on_progress: Callable[[Progress], None],
) -> Controller:
    """Return the controller of a run, with parts for the configuration's backends and settings."""
    run = config.run
    store = resources.store
    writes = DeferredWrites(loop, store)
    return Controller(
        loop,
        store,
        task_queue=resources.tasks,
        make_enqueuer=lambda on_broken: TaskEnqueuer(
            loop,
            store,
            resources.tasks,
            on_broken=on_broken,
            operations=run.max_concurrent_queue_operations,
            send_batch=registry.queue(config.queue).traits.send_batch,
            writes=writes,
        ),
        make_collector=lambda on_events: EventCollector(
            loop, store, resources.events, on_events=on_events, writes=writes
        ),
        make_fleet=lambda on_refused: Fleet(
            loop,
            store,
            resources.compute,
            job_id=job_id,
            compose=requests.compose,
            finish=requests.finish,
            max_parallel=parallel_launches(config),
            own_end=own_end_of(config),
            on_refused=on_refused,
            writes=writes,
        ),
        offers=offers,
        policy=policy_of(config),
        interval=timedelta(seconds=run.scaling_check_interval),
        watch_interval=registry.compute(config.compute).traits.watch_interval,
        on_events=sinks.write,
        on_progress=on_progress,
        event_queue=resources.events,
        writes=writes,
        on_error=StopMode(run.on_error),
        request_prices=lambda running: current_prices(config, resources.compute, running),
        price_interval=price_interval(config),
        credentials_end=reader_of_credentials_end(config),
    )
