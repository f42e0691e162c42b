"""Provider in memory: queue, compute and pricing that pass the contracts, with a clock that tests set.

For tests of code that uses a provider, and as the reference of the contracts. All objects opened from one
`MemoryProvider` share their state; no process is started and no file is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from cloud_tasks.model import Architecture, InstanceType, Region
from cloud_tasks.plugin import (
    Compute,
    ComputeBackend,
    ComputeContext,
    ComputeTraits,
    InstanceContext,
    InstanceSide,
    Pricing,
    PricingBackend,
    PricingContext,
    Queue,
    QueueBackend,
    QueueContext,
    QueueTraits,
)
from cloud_tasks.testing.fakes.memory_compute import MemoryCompute, MemoryInstances, MemoryInstanceSide, MemoryPricing
from cloud_tasks.testing.fakes.memory_queue import MemoryQueue, MemoryQueues

__all__ = ["Clock", "MemoryProvider"]

REGION = Region(name="memory", zones=("memory-a", "memory-b"))


class Clock:
    """A clock that only `advance` moves."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the current time (UTC)."""
        return self._now

    def advance(self, duration: timedelta) -> None:
        """Move the clock forward."""
        self._now += duration


class MemoryProvider:
    """Queue, compute and pricing backends, each named ``memory``.

    Args:
        queue_traits: Traits of another queue; the queue keeps to their delays and leases.
        exact_depth: Whether the queue declares its depth exact.
        missing_listings: Number of listings after a launch without the instance.
        pending_listings: Number of further listings with it as PENDING, before STARTING.
        starting_listings: Number of further listings with it as STARTING, before RUNNING.
        max_pending: Number of pending instances, above which a launch is refused.
    """

    def __init__(
        self,
        *,
        queue_traits: QueueTraits | None = None,
        exact_depth: bool = True,
        missing_listings: int = 0,
        pending_listings: int = 0,
        starting_listings: int = 1,
        max_pending: int | None = None,
    ) -> None:
        self.clock = Clock()
        self.exact_depth = exact_depth
        self.queues = MemoryQueues(clock=self.clock)
        self.instances = MemoryInstances(
            clock=self.clock,
            region=REGION,
            types=_types(),
            missing_listings=missing_listings,
            pending_listings=pending_listings,
            starting_listings=starting_listings,
            max_pending=max_pending,
        )
        self.queue = QueueBackend(
            name="memory", summary="In memory", traits=queue_traits or _QUEUE_TRAITS, open=self._open_queue
        )
        self.compute = ComputeBackend(
            name="memory",
            summary="In memory",
            traits=ComputeTraits(spot=True, enforces_max_lifetime=True, max_pending=max_pending),
            open=self._open_compute,
            open_instance=self._open_instance,
        )
        self.pricing = PricingBackend(name="memory", summary="In memory", open=self._open_pricing)

    @contextmanager
    def _open_queue(self, settings: Any, context: QueueContext) -> Iterator[Queue]:
        yield MemoryQueue(
            self.queues,
            self.queue.traits,
            name=context.name,
            lease=context.lease,
            exact_depth=self.exact_depth,
        )

    @contextmanager
    def _open_compute(self, settings: Any, context: ComputeContext) -> Iterator[Compute]:
        yield MemoryCompute(self.instances)

    @contextmanager
    def _open_instance(self, settings: Any, context: InstanceContext) -> Iterator[InstanceSide]:
        yield MemoryInstanceSide(self.instances, context.job_id)

    @contextmanager
    def _open_pricing(self, settings: Any, context: PricingContext) -> Iterator[Pricing]:
        yield MemoryPricing(self.instances)


_QUEUE_TRAITS = QueueTraits(
    max_lease=timedelta(hours=12),
    max_message_bytes=256 * 1024,
    receive_batch=10,
    send_batch=10,
    delay=timedelta(minutes=15),
    reports_delivery_count=True,
    exactly_once=True,
)


def _types() -> tuple[InstanceType, ...]:
    return tuple(
        InstanceType(
            name=f"memory-{vcpus}",
            vcpus=vcpus,
            memory_gb=4.0 * vcpus,
            architecture=Architecture.X86_64,
            zones=REGION.zones,
        )
        for vcpus in (1, 2, 4, 8)
    )
