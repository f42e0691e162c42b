"""The bare plugin: found, described, and honest about what it cannot do yet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import attrs
import pytest

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import ComputeContext, InstanceContext, PricingContext, QueueContext, setting_info
from cloud_tasks.registry import Registry
from cloud_tasks_gcp.settings import GcpSettings


@pytest.fixture
def registry() -> Registry:
    return Registry(only=["gcp"])


def test_the_installed_distribution_registers_its_three_backends(registry: Registry) -> None:
    assert registry.queue("gcp").settings is GcpSettings
    assert registry.compute("gcp").settings is GcpSettings
    assert registry.pricing("gcp").settings is GcpSettings
    assert registry.problems() == ()


OPENINGS: dict[str, Callable[[Registry], Any]] = {
    "queue": lambda registry: registry.queue("gcp").open(
        GcpSettings(), QueueContext(job_id="job", name="job", lease=timedelta(minutes=1))
    ),
    "compute": lambda registry: registry.compute("gcp").open(GcpSettings(), ComputeContext(job_id="job")),
    "instance": lambda registry: registry.compute("gcp").open_instance(GcpSettings(), InstanceContext(job_id="job")),
    "pricing": lambda registry: registry.pricing("gcp").open(GcpSettings(), PricingContext()),
}


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS.keys())
def test_opening_a_backend_says_that_it_is_not_there_yet(
    registry: Registry, opening: Callable[[Registry], Any]
) -> None:
    with pytest.raises(ProviderError, match=r'"gcp" is not there yet.*provider: local') as caught, opening(registry):
        pytest.fail("it opened")
    assert not caught.value.transient


def test_the_settings_carry_the_flags_that_users_know() -> None:
    flags = {field.name: setting_info(field).flag for field in attrs.fields(GcpSettings)}
    assert flags == {
        "project_id": "--project-id",
        "credentials_file": "--credentials-file",
        "service_account": "--service-account",
    }


def test_what_must_not_be_shown_is_marked_secret() -> None:
    secret = {field.name for field in attrs.fields(GcpSettings) if setting_info(field).secret}
    assert secret == set()
