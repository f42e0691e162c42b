"""Plugin registration. Imports of SDKs are deferred until a backend is opened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta

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
from cloud_tasks_azure.settings import AzureSettings
from cloud_tasks_azure.traits import COMPUTE_TRAITS, QUEUE_TRAITS

__all__ = ["cloud_tasks_register_compute", "cloud_tasks_register_pricing", "cloud_tasks_register_queue"]


@hookimpl
def cloud_tasks_register_queue() -> Sequence[QueueBackend]:
    return (
        QueueBackend(
            name="azure",
            summary="Azure Storage Queue, or Service Bus",
            settings=AzureSettings,
            traits=QUEUE_TRAITS,
            open=_open_queue,
            check=_check_queue,
            credentials_end=_credentials_end,
        ),
    )


@hookimpl
def cloud_tasks_register_compute() -> Sequence[ComputeBackend]:
    return (
        ComputeBackend(
            name="azure",
            summary="Azure Virtual Machines",
            settings=AzureSettings,
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
            name="azure",
            summary="Azure Retail Prices API",
            settings=AzureSettings,
            open=_open_pricing,
            max_age=_price_max_age,
            check=_check_pricing,
        ),
    )


def _locate_compute(settings: AzureSettings, context: LocationContext) -> Mapping[str, str]:
    from cloud_tasks_azure.compute.zones import location_of
    from cloud_tasks_azure.credentials import subscription_id

    region = context.region or location_of(context.zone or "")
    return {"subscription": subscription_id(settings), "region": region.lower()}


def _open_queue(settings: AzureSettings, context: QueueContext) -> AbstractContextManager[Queue]:
    if settings.queue == "servicebus":
        from cloud_tasks_azure.queue.servicebus_factory import open_service_bus

        return open_service_bus(settings, context)
    from cloud_tasks_azure.queue.factory import open_storage_queue

    return open_storage_queue(settings, context)


def _open_compute(settings: AzureSettings, context: ComputeContext) -> AbstractContextManager[Compute]:
    from cloud_tasks_azure.compute.backend import open_compute

    return open_compute(settings, context)


@contextmanager
def _open_instance(settings: AzureSettings, context: InstanceContext) -> Iterator[InstanceSide]:
    from cloud_tasks_azure.instance_side import AzureInstanceSide

    side = AzureInstanceSide(settings)
    try:
        yield side
    finally:
        side.close()


def _price_max_age(settings: AzureSettings, provisioning_model: ProvisioningModel) -> timedelta:
    return timedelta(hours=settings.price_max_age_hours)


def _open_pricing(settings: AzureSettings, context: PricingContext) -> AbstractContextManager[Pricing]:
    from cloud_tasks_azure.pricing.retail_pricing import open_pricing

    return open_pricing(settings, context)


def _check_queue(settings: AzureSettings, context: CheckContext) -> Iterable[Finding]:
    from cloud_tasks_azure.doctor_queue import check_queue

    return check_queue(settings, context)


def _check_compute(settings: AzureSettings, context: CheckContext) -> Iterable[Finding]:
    from cloud_tasks_azure.doctor_compute import check_compute

    return check_compute(settings, context)


def _credentials_end(settings: AzureSettings) -> datetime | None:
    from cloud_tasks_azure.queue.account import credentials_end

    return credentials_end(settings)


def _check_launch(settings: AzureSettings, request: LaunchRequest) -> None:
    from cloud_tasks_azure.compute.launch_check import check_launch

    check_launch(settings, request)


def _check_pricing(settings: AzureSettings, context: CheckContext) -> Iterable[Finding]:
    from cloud_tasks_azure.doctor_pricing import check_pricing

    return check_pricing(settings, context)


def _policies(settings: AzureSettings, context: CheckContext) -> Mapping[str, str]:
    from cloud_tasks_azure.policies import policies

    return policies(settings)
