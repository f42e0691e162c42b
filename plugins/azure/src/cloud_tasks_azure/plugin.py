"""Plugin registration. SDKs are imported when a backend is opened."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cloud_tasks.model import ProvisioningModel
from cloud_tasks.plugin import ComputeBackend, PricingBackend, QueueBackend, hookimpl
from cloud_tasks_azure.settings import AzureSettings
from cloud_tasks_azure.traits import COMPUTE_TRAITS, QUEUE_TRAITS, STAGING_SCHEMES

__all__ = ["cloud_tasks_register_compute", "cloud_tasks_register_pricing", "cloud_tasks_register_queue"]


@hookimpl
def cloud_tasks_register_queue() -> Sequence[QueueBackend]:
    return (
        QueueBackend(
            name="azure",
            summary="Azure Storage Queue",
            settings=AzureSettings,
            traits=QUEUE_TRAITS,
            open="cloud_tasks_azure.queue.factory:open_storage_queue",
            check="cloud_tasks_azure.doctor_queue:check_queue",
            credentials_end="cloud_tasks_azure.queue.account:credentials_end",
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
            open="cloud_tasks_azure.compute.backend:open_compute",
            open_instance="cloud_tasks_azure.instance_side:AzureInstanceSide",
            check="cloud_tasks_azure.doctor_compute:check_compute",
            check_launch="cloud_tasks_azure.compute.launch_check:check_launch",
            locate="cloud_tasks_azure.credentials:locate_compute",
            policies="cloud_tasks_azure.permissions:policies",
            download="cloud_tasks_azure.staging:download",
            staging_schemes=STAGING_SCHEMES,
            staging_options="cloud_tasks_azure.staging:staging_options",
            setup="cloud_tasks_azure.setup.account:set_up",
        ),
    )


@hookimpl
def cloud_tasks_register_pricing() -> Sequence[PricingBackend]:
    return (
        PricingBackend(
            name="azure",
            summary="Azure Retail Prices API",
            settings=AzureSettings,
            open="cloud_tasks_azure.pricing.retail_pricing:open_pricing",
            max_age=_price_max_age,
            check="cloud_tasks_azure.doctor_pricing:check_pricing",
        ),
    )


def _price_max_age(settings: AzureSettings, provisioning_model: ProvisioningModel) -> timedelta:
    return timedelta(hours=settings.price_max_age_hours)
