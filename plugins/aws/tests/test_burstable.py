"""Burstable types: their sustained share, credit mode and price of surplus credits."""

from __future__ import annotations

import pytest

from cloud_tasks.model import Architecture, InstanceType, Money
from cloud_tasks_aws.compute.burstable import credit_mode, surplus_price, sustained_share


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("t3a.nano", 0.05),
        ("t3.micro", 0.1),
        ("t4g.small", 0.2),
        ("t3.medium", 0.2),
        ("t3.large", 0.3),
        ("t3.xlarge", 0.4),
        ("t3a.2xlarge", 0.4),
        ("t2.xlarge", 0.225),
        ("t2.2xlarge", 0.16875),
        ("t1.micro", 0.1),
        ("t9z.24xlarge", 0.05),
        ("m5.large", 1.0),
        ("trn1.2xlarge", 1.0),
        ("m7i-flex.large", 1.0),
    ],
)
def test_sustained_share_is_the_baseline_per_vcpu(name: str, expected: float) -> None:
    assert sustained_share(name) == expected


def test_sustained_share_of_an_unknown_series_follows_the_description() -> None:
    assert sustained_share("b1.large", is_burstable=True) < 1
    assert sustained_share("b1.large") == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("t2.micro", "standard"),
        ("t3.nano", "unlimited"),
        ("t4g.large", "unlimited"),
        ("t1.micro", None),
        ("c5.large", None),
    ],
)
def test_credit_mode_is_that_of_the_price(name: str, expected: str | None) -> None:
    assert credit_mode(name) == expected


@pytest.mark.parametrize(
    ("name", "vcpus", "expected"),
    [
        ("t3a.nano", 2, "0.095"),
        ("t3.medium", 2, "0.08"),
        ("t3a.2xlarge", 8, "0.24"),
        ("t4g.nano", 2, "0.076"),
        ("t2.large", 2, "0"),
        ("c6a.large", 2, "0"),
    ],
)
def test_surplus_price_is_the_charge_with_all_vcpus_busy(name: str, vcpus: int, expected: str) -> None:
    instance_type = InstanceType(
        name=name, vcpus=vcpus, memory_gb=4, architecture=Architecture.X86_64, zones=("us-east-1a",)
    )
    assert surplus_price(instance_type) == Money(expected)
