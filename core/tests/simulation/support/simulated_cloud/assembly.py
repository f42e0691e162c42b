"""Controller of a simulated world, made from the classes under test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import cast

import attrs

from cloud_tasks.controller.autoscaler.fleet import Fleet
from cloud_tasks.controller.autoscaler.price_refresh import CurrentPrices
from cloud_tasks.controller.autoscaler.state import Policy
from cloud_tasks.controller.controller import Controller
from cloud_tasks.controller.deferred_writes import DeferredWrites
from cloud_tasks.controller.messaging.enqueuer import TaskEnqueuer
from cloud_tasks.controller.messaging.event_collector import EventCollector
from cloud_tasks.model import BootDisk, LaunchRequest, Limits, Offer, OfferRequest
from cloud_tasks.plugin import Compute, Queue
from cloud_tasks.selection import RankedOffer
from cloud_tasks.store import InstanceRecord, Store
from simulated_cloud.loop import CrashableLoop
from simulated_cloud.scenario import Scenario
from simulated_cloud.watched import WatchedCompute, WatchedFleet, WatchedTasks
from simulated_cloud.world import World

__all__ = ["Parts", "make_controller"]

_SPOT_MARGIN = 1.2
"""Maximum price of a spot instance, as a multiple of its price at the launch."""
_OWN_END = timedelta(minutes=5)
"""Time after its deadline by which an instance has ended itself."""
_PRICE_INTERVAL = timedelta(minutes=3)
"""Time between two requests for prices, where they move."""


@attrs.frozen(kw_only=True)
class Parts:
    """Classes of the controller under test; a test replaces one to plant a defect."""

    collector: type[EventCollector] = EventCollector
    fleet: type[Fleet] = Fleet
    enqueuer: type[TaskEnqueuer] = TaskEnqueuer


def make_controller(
    loop: CrashableLoop,
    store: Store,
    world: World,
    *,
    parts: Parts,
    job_id: str,
    scenario: Scenario,
    limits: Limits,
    offers: tuple[RankedOffer, ...],
    refusals: dict[int, LaunchRequest],
) -> Controller:
    """Return a controller, wired as in a run.

    Args:
        store: The store, or a `WatchedStore`.
        limits: Limits in place of the scenario's, such as a raised cost limit.
        refusals: Receives the requests of refused launches, by the id of the error.
    """
    tasks = cast(Queue, WatchedTasks(world.task_calls, world.monitor))
    compute = cast(Compute, WatchedCompute(world.cloud_calls, world.monitor, refusals))

    takes_maximum = scenario.faults.money.takes_maximum
    policy = Policy(
        limits=limits,
        termination_delay=scenario.instance_termination_delay,
        listing_lag=scenario.faults.listing_lag,
        canary=scenario.canary,
        spot_fallback=scenario.spot_fallback,
        max_lifetime=scenario.max_lifetime,
        max_runtime=scenario.max_runtime,
    )

    def compose(
        ranked: RankedOffer, others: Sequence[RankedOffer], token: str, lifetime: timedelta | None
    ) -> LaunchRequest:
        drain = {} if lifetime is None else {"drain": str(policy.drain_after(lifetime).total_seconds())}
        return LaunchRequest(
            client_token=token,
            job_id=job_id,
            offer=ranked.offer,
            startup_script="start the worker",
            labels={"slots": str(ranked.slots), "run": store.job.run_id, "owner": "simulated", **drain},
            max_lifetime=lifetime,
            max_price_per_hour=ranked.offer.price.machine * _SPOT_MARGIN if takes_maximum else None,
        )

    def make_fleet(on_refused: Callable[[], None]) -> Fleet:
        fleet = parts.fleet(
            loop,
            store,
            compute,
            job_id=job_id,
            compose=compose,
            max_parallel=scenario.max_parallel_launches,
            own_end=_OWN_END,
            on_refused=on_refused,
            writes=writes,
        )
        watched = WatchedFleet(fleet, world.monitor, now=world.loop.now, is_locked=world.is_database_locked)
        return cast(Fleet, watched)

    writes = DeferredWrites(loop, store)
    return Controller(
        loop,
        store,
        task_queue=tasks,
        make_enqueuer=lambda on_broken: parts.enqueuer(loop, store, tasks, on_broken=on_broken, writes=writes),
        make_collector=lambda on_events: parts.collector(
            loop, store, cast(Queue, world.event_calls), on_events=on_events, wait=scenario.event_wait, writes=writes
        ),
        make_fleet=make_fleet,
        offers=offers,
        policy=policy,
        interval=scenario.scaling_check_interval,
        writes=writes,
        event_queue=cast(Queue, world.event_calls),
        request_prices=lambda running: _current_prices(world, running),
        price_interval=None if scenario.faults.money.price_interval is None else _PRICE_INTERVAL,
    )


def _current_prices(world: World, running: Sequence[InstanceRecord]) -> CurrentPrices:
    """Return the present offers, and the present prices of running instances, as a run does."""
    types = {each.name: each for each in world.cloud.instance_types()}
    requests = {
        record.client_token: OfferRequest(
            instance_type=types[record.instance_type],
            zone=record.zone,
            provisioning_model=record.provisioning_model,
            boot_disk=BootDisk(disk_type=record.boot_disk_type, size_gb=record.boot_disk_gb),
        )
        for record in running
    }
    found = zip(requests, world.prices(tuple(requests.values())), strict=True)
    prices = {token: offer.price_per_hour for token, offer in found if isinstance(offer, Offer)}
    return CurrentPrices(offers=world.rank(), instances=prices)
