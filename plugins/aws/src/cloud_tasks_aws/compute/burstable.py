"""Burstable instance types: the share of each vCPU that they sustain, and the price of using more.

Source: "Burstable performance instances" of the EC2 user guide (baseline utilization per vCPU; launch in standard or
unlimited mode), and "Amazon EC2 On-Demand Pricing", T2/T3/T4g Unlimited Mode Pricing (Linux, in all regions).

T2 is launched in standard mode, which is never charged and sustains the baseline. The others are launched in unlimited
mode: without initial credits, a standard one would take too long to boot and install its software.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cloud_tasks.model import InstanceType, Money

__all__ = ["credit_mode", "surplus_price", "sustained_share"]

_NAME = re.compile(r"(?P<series>t\d+[a-z]*)\.(?P<size>\w+)")
_BASELINES: Mapping[str, float] = {
    "nano": 0.05,
    "micro": 0.1,
    "small": 0.2,
    "medium": 0.2,
    "large": 0.3,
    "xlarge": 0.4,
    "2xlarge": 0.4,
}
"""By size, for T3, T3a and T4g."""
_T2_BASELINES: Mapping[str, float] = {**_BASELINES, "xlarge": 0.225, "2xlarge": 0.16875}
"""The user guide has 90% of 400% and 135% of 800% for the two largest."""
_UNKNOWN = 0.05
"""Baseline of a burstable type that is in no table."""
_SURPLUS_PER_VCPU: Mapping[str, Money] = {"t4g": Money("0.04")}
_SURPLUS = Money("0.05")
"""Price per vCPU-hour of surplus credits, except for the series of the table above."""


def sustained_share(name: str, *, is_burstable: bool = False) -> float:
    """Return the share of each vCPU that an instance type sustains; 1 if it is not burstable.

    Args:
        is_burstable: Whether EC2 describes the type as burstable.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        return _UNKNOWN if is_burstable else 1.0
    return (_T2_BASELINES if found["series"] == "t2" else _BASELINES).get(found["size"], _UNKNOWN)


def credit_mode(name: str) -> str | None:
    """Return ``CpuCredits`` of a launch; None for a type without credits."""
    found = _NAME.fullmatch(name)
    if found is None or found["series"] == "t1":
        return None
    return "standard" if found["series"] == "t2" else "unlimited"


def surplus_price(instance_type: InstanceType) -> Money:
    """Return the charge per hour for all vCPUs above their baseline; zero if there is none."""
    if credit_mode(instance_type.name) != "unlimited":
        return Money.zero()
    series = instance_type.name.partition(".")[0]
    share = sustained_share(instance_type.name)
    return _SURPLUS_PER_VCPU.get(series, _SURPLUS) * (instance_type.vcpus * (1 - share))
