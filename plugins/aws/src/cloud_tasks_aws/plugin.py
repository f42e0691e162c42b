"""What this distribution registers.

The names and the settings are final; opening a backend says that it is not there yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NoReturn

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import (
    Compute,
    ComputeBackend,
    ComputeContext,
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
from cloud_tasks_aws.settings import AwsSettings
from cloud_tasks_aws.traits import COMPUTE_TRAITS, QUEUE_TRAITS

__all__ = ["cloud_tasks_register_compute", "cloud_tasks_register_pricing", "cloud_tasks_register_queue"]


@hookimpl
def cloud_tasks_register_queue() -> Sequence[QueueBackend]:
    return (
        QueueBackend(
            name="aws",
            summary="SQS (not there yet)",
            settings=AwsSettings,
            traits=QUEUE_TRAITS,
            open=_open_queue,
        ),
    )


@hookimpl
def cloud_tasks_register_compute() -> Sequence[ComputeBackend]:
    return (
        ComputeBackend(
            name="aws",
            summary="EC2 (not there yet)",
            settings=AwsSettings,
            traits=COMPUTE_TRAITS,
            open=_open_compute,
            open_instance=_open_instance,
        ),
    )


@hookimpl
def cloud_tasks_register_pricing() -> Sequence[PricingBackend]:
    return (
        PricingBackend(
            name="aws",
            summary="EC2 price list (not there yet)",
            settings=AwsSettings,
            open=_open_pricing,
        ),
    )


def _open_queue(settings: AwsSettings, context: QueueContext) -> AbstractContextManager[Queue]:
    _refuse("queue")


def _open_compute(settings: AwsSettings, context: ComputeContext) -> AbstractContextManager[Compute]:
    _refuse("compute")


def _open_instance(settings: AwsSettings, context: InstanceContext) -> AbstractContextManager[InstanceSide]:
    _refuse("compute")


def _open_pricing(settings: AwsSettings, context: PricingContext) -> AbstractContextManager[Pricing]:
    _refuse("pricing")


def _refuse(axis: str) -> NoReturn:
    raise ProviderError(
        f'the {axis} "aws" is not there yet: this release of cloud-tasks-aws only reserves its name and settings',
        hint="use `provider: local`, or a later release",
    )
