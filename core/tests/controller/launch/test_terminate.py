"""Termination outside of a run: only a complete listing proves it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from controller_fakes import FakeCompute, ranked
from virtual_loop import VirtualLoop

from cloud_tasks.controller.launch.terminate import remaining_instances, terminate_instances
from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Instance, LaunchRequest


def launch(compute: FakeCompute, count: int) -> None:
    for number in range(count):
        compute.launch(
            LaunchRequest(client_token=f"t{number}", job_id="job", offer=ranked().offer, startup_script="", labels={})
        )


class Clock:
    """Clock that only sleeping advances."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def remove(compute: FakeCompute) -> tuple[Instance, ...]:
    clock = Clock()
    return terminate_instances(
        compute,
        lambda: remaining_instances(compute, "job"),
        timeout=timedelta(minutes=5),
        clock=lambda: clock.now,
        sleep=clock.sleep,
    )


class Reluctant(FakeCompute):
    """Compute that terminates one instance at each call."""

    def terminate(self, instance_ids) -> None:
        super().terminate(list(instance_ids)[:1])


class Immortal(FakeCompute):
    def terminate(self, instance_ids) -> None:
        """Accept the call and do nothing."""


def test_terminate_instances_ends_and_returns_all_listed(loop: VirtualLoop) -> None:
    compute = FakeCompute(loop)
    launch(compute, 3)
    assert {instance.instance_id for instance in remove(compute)} == {"i-1", "i-2", "i-3"}
    assert compute.existing == {}


def test_terminate_instances_repeats_a_partial_termination(loop: VirtualLoop) -> None:
    compute = Reluctant(loop)
    launch(compute, 3)
    assert len(remove(compute)) == 3
    assert compute.existing == {}


def test_terminate_instances_fails_while_instances_are_listed(loop: VirtualLoop) -> None:
    compute = Immortal(loop)
    launch(compute, 1)
    with pytest.raises(ProviderError, match=r"instances may still exist \(i-1\)"):
        remove(compute)


def test_terminate_instances_takes_a_failed_listing_as_unknown(loop: VirtualLoop) -> None:
    compute = FakeCompute(loop)
    compute.listing_fails = True
    with pytest.raises(ProviderError, match="listing is out of order"):
        remove(compute)
