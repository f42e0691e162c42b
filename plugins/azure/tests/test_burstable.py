"""Burstable sizes and their sustained share of a vCPU."""

from __future__ import annotations

import pytest

from cloud_tasks_azure.compute.burstable import sustained_share


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("Standard_B1ls", 0.05),
        ("Standard_B1s", 0.1),
        ("Standard_B2s", 0.2),
        ("Standard_B2ms", 0.3),
        ("Standard_B4ms", 0.225),
        ("Standard_B20ms", 0.16875),
        ("Standard_B2ts_v2", 0.2),
        ("Standard_B2ats_v2", 0.2),
        ("Standard_B4ls_v2", 0.3),
        ("Standard_B2pls_v2", 0.3),
        ("Standard_B32as_v2", 0.4),
        ("Standard_B2s_v2", 0.4),
        ("standard_b2s", 0.2),
        ("Standard_B99xs", 0.05),
        ("Standard_D2s_v5", 1.0),
        ("Standard_F2s_v2", 1.0),
        ("Standard_DC2s_v3", 1.0),
    ],
)
def test_sustained_share_is_the_baseline_per_vcpu(size: str, expected: float) -> None:
    assert sustained_share(size) == expected
