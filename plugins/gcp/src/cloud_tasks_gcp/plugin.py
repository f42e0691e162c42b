"""Plugin registration. SDKs are imported when a backend is opened."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cloud_tasks.model import ProvisioningModel
from cloud_tasks.plugin import ComputeBackend, PricingBackend, QueueBackend, hookimpl
from cloud_tasks_gcp.settings import GcpSettings
from cloud_tasks_gcp.traits import COMPUTE_TRAITS, QUEUE_TRAITS, STAGING_SCHEMES

__all__ = ["cloud_tasks_register_compute", "cloud_tasks_register_pricing", "cloud_tasks_register_queue"]


@hookimpl
def cloud_tasks_register_queue() -> Sequence[QueueBackend]:
    return (
        QueueBackend(
            name="gcp",
            summary="Pub/Sub",
            settings=GcpSettings,
            traits=QUEUE_TRAITS,
            open="cloud_tasks_gcp.queue.factory:open_queue",
            check="cloud_tasks_gcp.doctor:check_queue",
            locate="cloud_tasks_gcp.credentials:locate_queue",
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
            open="cloud_tasks_gcp.compute.backend:open_compute",
            open_instance="cloud_tasks_gcp.instance_side:open_instance",
            check="cloud_tasks_gcp.doctor:check_compute",
            check_launch="cloud_tasks_gcp.compute.launch_check:check_launch",
            locate="cloud_tasks_gcp.credentials:locate_compute",
            policies="cloud_tasks_gcp.permissions:policies",
            download="cloud_tasks_gcp.staging:download",
            staging_schemes=STAGING_SCHEMES,
            staging_options="cloud_tasks_gcp.staging:staging_options",
            setup="cloud_tasks_gcp.setup:setup",
        ),
    )


@hookimpl
def cloud_tasks_register_pricing() -> Sequence[PricingBackend]:
    return (
        PricingBackend(
            name="gcp",
            summary="Cloud Billing Catalog",
            settings=GcpSettings,
            open="cloud_tasks_gcp.pricing:open_pricing",
            max_age=_price_max_age,
            check="cloud_tasks_gcp.doctor:check_pricing",
        ),
    )


def _price_max_age(settings: GcpSettings, provisioning_model: ProvisioningModel) -> timedelta:
    return timedelta(hours=settings.price_max_age_hours)
