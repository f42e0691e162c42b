"""Backends registered by this distribution. Each implementation is imported when it is opened."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_tasks.plugin import ComputeBackend, PricingBackend, QueueBackend, hookimpl
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
            open="cloud_tasks_local.queue:open_queue",
            check="cloud_tasks_local.checks:check_state_folder",
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
            open="cloud_tasks_local.compute:LocalCompute",
            open_instance="cloud_tasks_local.instance_side:open_instance",
            check="cloud_tasks_local.checks:check_state_folder",
        ),
    )


@hookimpl
def cloud_tasks_register_pricing() -> Sequence[PricingBackend]:
    return (
        PricingBackend(
            name="local",
            summary="Flat price per CPU hour, zero by default",
            settings=LocalSettings,
            open="cloud_tasks_local.pricing:open_pricing",
        ),
    )
