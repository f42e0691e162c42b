"""Shared-core machine types and their sustained share of a vCPU."""

from __future__ import annotations

import pytest

from cloud_tasks_gcp.compute.shared_cores import sustained_share


@pytest.mark.parametrize(
    ("name", "cores"),
    [("f1-micro", 0.2), ("g1-small", 0.5), ("e2-micro", 0.25), ("e2-small", 0.5), ("e2-medium", 1.0)],
)
def test_sustained_share_times_vcpus_is_the_fraction_of_a_core(name: str, cores: float) -> None:
    vcpus = 2 if name.startswith("e2-") else 1
    assert sustained_share(name, is_shared=True) * vcpus == cores
    assert sustained_share(name) == sustained_share(name, is_shared=True)


@pytest.mark.parametrize("name", ["e2-custom-micro-1024", "e2-custom-small-2048", "e2-custom-medium-4096"])
def test_sustained_share_of_a_custom_type_is_that_of_its_size(name: str) -> None:
    assert sustained_share(name) == sustained_share(f"e2-{name.split('-')[2]}") < 1


@pytest.mark.parametrize("name", ["e2-standard-2", "e2-highcpu-2", "e2-custom-2-4096", "n1-standard-1", "c3-highmem-4"])
def test_sustained_share_of_dedicated_cores_is_one(name: str) -> None:
    assert sustained_share(name) == 1


def test_sustained_share_of_an_unknown_shared_core_type_is_below_one() -> None:
    assert sustained_share("e9-tiny", is_shared=True) < 1
