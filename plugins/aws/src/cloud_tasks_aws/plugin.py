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
from cloud_tasks_aws.settings import AwsSettings
from cloud_tasks_aws.traits import COMPUTE_TRAITS, QUEUE_TRAITS

__all__ = ["cloud_tasks_register_compute", "cloud_tasks_register_pricing", "cloud_tasks_register_queue"]


@hookimpl
def cloud_tasks_register_queue() -> Sequence[QueueBackend]:
    return (
        QueueBackend(
            name="aws",
            summary="Amazon SQS",
            settings=AwsSettings,
            traits=QUEUE_TRAITS,
            open=_open_queue,
            check=_check_queue,
            credentials_end=_credentials_end,
            locate=_locate_queue,
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
            open=_open_compute,
            open_instance=_open_instance,
            check=_check_compute,
            check_launch=_check_launch,
            credentials_end=_credentials_end,
            locate=_locate_compute,
            policies=_policies,
        ),
    )


@hookimpl
def cloud_tasks_register_pricing() -> Sequence[PricingBackend]:
    return (
        PricingBackend(
            name="aws",
            summary="AWS price list and spot price history",
            settings=AwsSettings,
            open=_open_pricing,
            max_age=_price_max_age,
            check=_check_pricing,
        ),
    )


def _open_queue(settings: AwsSettings, context: QueueContext) -> AbstractContextManager[Queue]:
    from cloud_tasks_aws.queue.factory import open_queue

    return open_queue(settings, context)


def _check_queue(settings: AwsSettings, context: CheckContext) -> Iterable[Finding]:
    from cloud_tasks_aws.doctor_queue import check_queue

    return check_queue(settings, context)


def _locate_queue(settings: AwsSettings, context: LocationContext) -> Mapping[str, str]:
    from cloud_tasks_aws.session import location_of

    return location_of(settings, "sqs", region=context.region, zone=context.zone)


def _locate_compute(settings: AwsSettings, context: LocationContext) -> Mapping[str, str]:
    from cloud_tasks_aws.session import location_of

    return location_of(settings, "ec2", region=context.region, zone=context.zone)


def _open_compute(settings: AwsSettings, context: ComputeContext) -> AbstractContextManager[Compute]:
    from cloud_tasks_aws.compute.backend import open_compute

    return open_compute(settings, context)


@contextmanager
def _open_instance(settings: AwsSettings, context: InstanceContext) -> Iterator[InstanceSide]:
    from cloud_tasks_aws.instance_side import Ec2InstanceSide

    yield Ec2InstanceSide(settings)


def _check_compute(settings: AwsSettings, context: CheckContext) -> Iterable[Finding]:
    from cloud_tasks_aws.doctor_compute import check_compute

    return check_compute(settings, context)


def _credentials_end(settings: AwsSettings) -> datetime | None:
    from cloud_tasks_aws.credentials_end import credentials_end

    return credentials_end(settings)


def _check_launch(settings: AwsSettings, request: LaunchRequest) -> None:
    from cloud_tasks_aws.compute.launch_check import check_launch

    check_launch(settings, request)


def _policies(settings: AwsSettings, context: CheckContext) -> Mapping[str, str]:
    from cloud_tasks_aws.policies import policies

    return policies(settings)


def _price_max_age(settings: AwsSettings, provisioning_model: ProvisioningModel) -> timedelta:
    if provisioning_model is ProvisioningModel.SPOT:
        return timedelta(minutes=settings.spot_price_max_age_minutes)
    return timedelta(hours=settings.price_max_age_hours)


def _open_pricing(settings: AwsSettings, context: PricingContext) -> AbstractContextManager[Pricing]:
    from cloud_tasks_aws.pricing.ec2_pricing import open_pricing

    return open_pricing(settings, context)


def _check_pricing(settings: AwsSettings, context: CheckContext) -> Iterable[Finding]:
    from cloud_tasks_aws.doctor_pricing import check_pricing

    return check_pricing(settings, context)
