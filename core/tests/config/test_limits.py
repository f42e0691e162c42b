"""Limits of a fleet: impossible ones are refused with file and line, possible ones never."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from configuration_fakes import load
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cloud_tasks.config import JobConfig, RunSettings
from cloud_tasks.errors import InputError
from cloud_tasks.model import Architecture, InstanceType, Money, Offer, OfferRequest, PriceBreakdown
from cloud_tasks.selection import rank

Read = Callable[..., JobConfig]

IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    (
        {"min_instances": 4, "min_cpu": 2, "max_total_cpus": 6},
        "min_instances 4 × min_cpu 2 = 8 is more than max_total_cpus 6",
    ),
    ({"min_instances": 7, "max_total_cpus": 6}, "min_instances 7 is more than max_total_cpus 6"),
    ({"min_instances": 7, "max_simultaneous_tasks": 6}, "min_instances 7 is more than max_simultaneous_tasks 6"),
    ({"min_cpu": 8, "max_total_cpus": 4}, "min_cpu 8 is more than max_total_cpus 4"),
    (
        {"max_instances": 2, "max_cpu": 8, "min_total_cpus": 20},
        "max_instances 2 × max_cpu 8 = 16 is less than min_total_cpus 20",
    ),
    (
        {"max_instances": 2, "max_tasks_per_instance": 3, "min_simultaneous_tasks": 7},
        "max_instances 2 × max_tasks_per_instance 3 = 6 is less than min_simultaneous_tasks 7",
    ),
    (
        {"min_instances": 4, "min_tasks_per_instance": 4, "max_simultaneous_tasks": 15},
        "min_instances 4 × min_tasks_per_instance 4 = 16 is more than max_simultaneous_tasks 15",
    ),
    ({"cpus_per_task": 4, "max_cpu": 2}, "cpus_per_task 4 is more than max_cpu 2"),
    (
        {"min_simultaneous_tasks": 5, "cpus_per_task": 2.5, "max_total_cpus": 12},
        "min_simultaneous_tasks 5 × cpus_per_task 2.5 = 12.5 is more than max_total_cpus 12",
    ),
    (
        {"min_simultaneous_tasks": 9, "cpus_per_task": 2, "max_instances": 2, "max_cpu": 8},
        "min_simultaneous_tasks 9 × cpus_per_task 2 = 18 is more than max_instances 2 × max_cpu 8 = 16",
    ),
    (
        {"min_cpu": 8, "min_memory_per_cpu": 4, "max_total_memory": 16},
        "min_cpu 8 × min_memory_per_cpu 4 = 32 is more than max_total_memory 16",
    ),
    ({"min_memory_per_task": 32, "max_total_memory": 16}, "min_memory_per_task 32 is more than max_total_memory 16"),
    (
        {"max_cpu": 8, "max_memory_per_cpu": 2, "min_total_memory": 32},
        "max_cpu 8 × max_memory_per_cpu 2 = 16 is less than min_total_memory 32",
    ),
    (
        {"local_ssd_base_size": 100, "min_cpu": 4, "min_local_ssd_per_cpu": 50, "max_local_ssd": 250},
        "local_ssd_base_size 100 + min_cpu 4 × min_local_ssd_per_cpu 50 = 300 is more than max_local_ssd 250",
    ),
    ({"local_ssd_base_size": 100, "max_local_ssd": 50}, "local_ssd_base_size 100 is more than max_local_ssd 50"),
]  # fmt: skip


@pytest.mark.parametrize(("run", "message"), IMPOSSIBLE, ids=[message for _, message in IMPOSSIBLE])
def test_impossible_limit_is_refused_at_its_last_line(read: Read, run: dict[str, Any], message: str) -> None:
    lines = [f"  {key}: {value}\n" for key, value in run.items()]
    with pytest.raises(InputError) as caught:
        read("run:\n" + "".join(lines))
    last = list(run)[-1]
    assert str(caught.value).startswith(f"config.yml:{len(lines) + 1}: run.{last}: {message}; change it, or one of ")


def test_impossible_limit_is_reported_at_the_option_before_the_file(read: Read) -> None:
    with pytest.raises(InputError) as caught:
        read("run:\n  min_instances: 4\n  max_total_cpus: 6\n", options={"run.min_cpu": "2"})
    assert str(caught.value).startswith("--min-cpu: run.min_cpu: min_instances 4 × min_cpu 2 = 8 is more than")


def test_tasks_may_exceed_the_cpus_if_a_minimum_requires_it(read: Read) -> None:
    read("run:\n  min_tasks_per_instance: 3\n  cpus_per_task: 4\n  max_cpu: 2\n  max_total_cpus: 2\n")


_KEYS = (
    "min_instances", "max_instances", "min_cpu", "max_cpu", "min_total_cpus", "max_total_cpus", "cpus_per_task",
    "min_tasks_per_instance", "max_tasks_per_instance", "min_simultaneous_tasks", "max_simultaneous_tasks",
    "min_total_memory", "max_total_memory", "min_memory_per_cpu", "max_memory_per_cpu", "min_memory_per_task",
    "max_memory_per_task", "min_local_ssd", "max_local_ssd", "min_local_ssd_per_cpu", "max_local_ssd_per_cpu",
    "min_local_ssd_per_task", "max_local_ssd_per_task", "local_ssd_base_size",
)  # fmt: skip


def _price(requests: Sequence[OfferRequest]) -> list[Offer]:
    price = PriceBreakdown(cpu=Money("0.01"))
    return [
        Offer(
            instance_type=request.instance_type,
            zone=request.zone,
            provisioning_model=request.provisioning_model,
            boot_disk=request.boot_disk,
            price=price,
            priced_at=datetime(2025, 6, 11, tzinfo=UTC),
        )
        for request in requests
    ]


_TYPES = st.builds(
    InstanceType,
    name=st.just("t"),
    vcpus=st.integers(1, 8),
    memory_gb=st.integers(1, 16).map(float),
    local_ssd_gb=st.integers(0, 16).map(float),
    architecture=st.just(Architecture.X86_64),
    zones=st.just(("a",)),
    supports_spot=st.just(True),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(run=st.dictionaries(st.sampled_from(_KEYS), st.integers(1, 8), max_size=5), instance_type=_TYPES)
def test_limits_that_an_instance_type_satisfies_are_never_refused(
    run: dict[str, int], instance_type: InstanceType
) -> None:
    assume(not any(run[low] > run.get(low.replace("min_", "max_"), 8) for low in run if low.startswith("min_")))
    config = attrs.evolve(load(), run=RunSettings(**run))
    assume(rank([instance_type], config.constraints(), config.limits(), _price).offers)
    load(options={f"run.{key}": str(value) for key, value in run.items()})
