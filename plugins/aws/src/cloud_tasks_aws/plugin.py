"""Plugin registration. SDKs are imported when a backend is opened."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cloud_tasks.model import ProvisioningModel
from cloud_tasks.plugin import ComputeBackend, PricingBackend, QueueBackend, hookimpl
from cloud_tasks_aws.settings import AwsSettings
from cloud_tasks_aws.traits import COMPUTE_TRAITS, QUEUE_TRAITS, STAGING_SCHEMES

__all__ = ["cloud_tasks_register_compute", "cloud_tasks_register_pricing", "cloud_tasks_register_queue"]


@hookimpl
def cloud_tasks_register_queue() -> Sequence[QueueBackend]:
    return (
        QueueBackend(
            name="aws",
            summary="Amazon SQS",
            settings=AwsSettings,
            traits=QUEUE_TRAITS,
            open="cloud_tasks_aws.queue.factory:open_queue",
            check="cloud_tasks_aws.doctor_queue:check_queue",
            credentials_end="cloud_tasks_aws.credentials_end:credentials_end",
            locate="cloud_tasks_aws.session:locate_queue",
        ),
    )


@hookimpl
def cloud_tasks_register_compute() -> Sequence[ComputeBackend]:
    return (
        ComputeBackend(
            name="aws",
            summary="Amazon EC2",
            settings=AwsSettings,
            traits=COMPUTE_TRAITS,
            open="cloud_tasks_aws.compute.backend:open_compute",
            open_instance="cloud_tasks_aws.instance_side:Ec2InstanceSide",
            check="cloud_tasks_aws.doctor_compute:check_compute",
            check_launch="cloud_tasks_aws.compute.launch_check:check_launch",
            credentials_end="cloud_tasks_aws.credentials_end:credentials_end",
            locate="cloud_tasks_aws.session:locate_compute",
            policies="cloud_tasks_aws.policies:policies",
            download="cloud_tasks_aws.staging:download",
            staging_schemes=STAGING_SCHEMES,
            staging_options="cloud_tasks_aws.staging:staging_options",
            setup="cloud_tasks_aws.setup.account_setup:account_setup",
        ),
    )


@hookimpl
def cloud_tasks_register_pricing() -> Sequence[PricingBackend]:
    return (
        PricingBackend(
            name="aws",
            summary="AWS price list and spot price history",
            settings=AwsSettings,
            open="cloud_tasks_aws.pricing.ec2_pricing:open_pricing",
            max_age=_price_max_age,
            check="cloud_tasks_aws.doctor_pricing:check_pricing",
        ),
    )


def _price_max_age(settings: AwsSettings, provisioning_model: ProvisioningModel) -> timedelta:
    if provisioning_model is ProvisioningModel.SPOT:
        return timedelta(minutes=settings.spot_price_max_age_minutes)
    return timedelta(hours=settings.price_max_age_hours)
