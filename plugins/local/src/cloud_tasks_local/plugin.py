"""Backends registered by this distribution. Each implementation is imported when it is opened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from cloud_tasks.plugin import (
    CheckContext,
    Compute,
    ComputeBackend,
    ComputeContext,
    Finding,
    InstanceContext,
    InstanceSide,
    Pricing,
    PricingBackend,
    PricingContext,
    Queue,
    QueueBackend,
    QueueContext,
    hookimpl,
)
from cloud_tasks_local.settings import LocalSettings
from cloud_tasks_local.traits import COMPUTE_TRAITS, QUEUE_TRAITS

__all__ = ["cloud_tasks_register_compute", "cloud_tasks_register_pricing", "cloud_tasks_register_queue"]


@hookimpl
def cloud_tasks_register_queue() -> Sequence[QueueBackend]:
    return (
        QueueBackend(
            name="local",
            summary="SQLite file shared by the processes of this machine",
            settings=LocalSettings,
            traits=QUEUE_TRAITS,
            open=_open_queue,
            check=_check,
        ),
    )


@hookimpl
def cloud_tasks_register_compute() -> Sequence[ComputeBackend]:
    return (
        ComputeBackend(
            name="local",
            summary="Instances that are processes of this machine",
            settings=LocalSettings,
            traits=COMPUTE_TRAITS,
            open=_open_compute,
            open_instance=_open_instance,
            check=_check,
        ),
    )


@hookimpl
def cloud_tasks_register_pricing() -> Sequence[PricingBackend]:
    return (
        PricingBackend(
            name="local",
            summary="Flat price per CPU hour, zero by default",
            settings=LocalSettings,
            open=_open_pricing,
        ),
    )


def _check(settings: LocalSettings, context: CheckContext) -> Iterable[Finding]:
    from cloud_tasks_local.checks import check_state_folder

    return check_state_folder(settings, context)


@contextmanager
def _open_queue(settings: LocalSettings, context: QueueContext) -> Iterator[Queue]:
    from cloud_tasks_local.queue import SqliteQueue, queue_file

    queue = SqliteQueue(queue_file(settings.state_dir, context.name), lease=context.lease, job_id=context.job_id)
    try:
        yield queue
    finally:
        queue.close()


@contextmanager
def _open_compute(settings: LocalSettings, context: ComputeContext) -> Iterator[Compute]:
    from cloud_tasks_local.compute import LocalCompute

    yield LocalCompute(settings, context)


@contextmanager
def _open_instance(settings: LocalSettings, context: InstanceContext) -> Iterator[InstanceSide]:
    from cloud_tasks_local.instance_side import LocalInstanceSide

    yield LocalInstanceSide()


@contextmanager
def _open_pricing(settings: LocalSettings, context: PricingContext) -> Iterator[Pricing]:
    from cloud_tasks_local.pricing import FlatPricing

    yield FlatPricing(settings)
