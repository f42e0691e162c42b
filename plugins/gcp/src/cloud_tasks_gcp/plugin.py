"""Backends registered by this distribution.

No SDK is imported here: the modules that open a backend import it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta

from cloud_tasks.model import LaunchRequest, ProvisioningModel
from cloud_tasks.plugin import (
    CheckContext,
    Compute,
    ComputeBackend,
    ComputeContext,
    Finding,
    InstanceContext,
    InstanceSide,
    LocationContext,
    Pricing,
    PricingBackend,
    PricingContext,
    Queue,
    QueueBackend,
    QueueContext,
    hookimpl,
)
from cloud_tasks_gcp.settings import GcpSettings
from cloud_tasks_gcp.traits import COMPUTE_TRAITS, QUEUE_TRAITS

__all__ = ["cloud_tasks_register_compute", "cloud_tasks_register_pricing", "cloud_tasks_register_queue"]


@hookimpl
def cloud_tasks_register_queue() -> Sequence[QueueBackend]:
    return (
        QueueBackend(
            name="gcp",
            summary="Pub/Sub",
            settings=GcpSettings,
            traits=QUEUE_TRAITS,
            open=_open_queue,
            check=_check_queue,
            locate=_locate_queue,
        ),
    )


@hookimpl
def cloud_tasks_register_compute() -> Sequence[ComputeBackend]:
    return (
        ComputeBackend(
            name="gcp",
            summary="Compute Engine",
            settings=GcpSettings,
            traits=COMPUTE_TRAITS,
            open=_open_compute,
            open_instance=_open_instance,
            check=_check_compute,
            check_launch=_check_launch,
            locate=_locate_compute,
            policies=_policies,
        ),
    )


@hookimpl
def cloud_tasks_register_pricing() -> Sequence[PricingBackend]:
    return (
        PricingBackend(
            name="gcp",
            summary="Cloud Billing Catalog",
            settings=GcpSettings,
            open=_open_pricing,
            max_age=_price_max_age,
            check=_check_pricing,
        ),
    )


def _open_queue(settings: GcpSettings, context: QueueContext) -> AbstractContextManager[Queue]:
    from cloud_tasks_gcp.queue.factory import open_queue

    return open_queue(settings, context)


def _locate_queue(settings: GcpSettings, context: LocationContext) -> Mapping[str, str]:
    from cloud_tasks_gcp.credentials import project_id

    return {"project": project_id(settings)}


def _locate_compute(settings: GcpSettings, context: LocationContext) -> Mapping[str, str]:
    from cloud_tasks_gcp.credentials import project_id

    return {"project": project_id(settings), "region": context.region or (context.zone or "").rpartition("-")[0]}


def _open_compute(settings: GcpSettings, context: ComputeContext) -> AbstractContextManager[Compute]:
    from cloud_tasks_gcp.compute.backend import open_compute

    return open_compute(settings, context)


@contextmanager
def _open_instance(settings: GcpSettings, context: InstanceContext) -> Iterator[InstanceSide]:
    from cloud_tasks_gcp.instance_side import GceInstanceSide

    side = GceInstanceSide()
    try:
        yield side
    finally:
        side.close()


def _price_max_age(settings: GcpSettings, provisioning_model: ProvisioningModel) -> timedelta:
    return timedelta(hours=settings.price_max_age_hours)


def _open_pricing(settings: GcpSettings, context: PricingContext) -> AbstractContextManager[Pricing]:
    from cloud_tasks_gcp.pricing import open_pricing

    return open_pricing(settings, context)


def _check_queue(settings: GcpSettings, context: CheckContext) -> Iterable[Finding]:
    from cloud_tasks_gcp.doctor import check_queue

    return check_queue(settings, context)


def _check_compute(settings: GcpSettings, context: CheckContext) -> Iterable[Finding]:
    from cloud_tasks_gcp.doctor import check_compute

    return check_compute(settings, context)


def _check_launch(settings: GcpSettings, request: LaunchRequest) -> None:
    from cloud_tasks_gcp.compute.launch_check import check_launch

    check_launch(settings, request)


def _check_pricing(settings: GcpSettings, context: CheckContext) -> Iterable[Finding]:
    from cloud_tasks_gcp.doctor import check_pricing

    return check_pricing(settings, context)


def _policies(settings: GcpSettings, context: CheckContext) -> Mapping[str, str]:
    from cloud_tasks_gcp.permissions import policies

    return policies(settings, context)
