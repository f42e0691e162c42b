"""Wiring: the controller follows the traits of the configured compute backend."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from controller_fakes import FakeQueue, ranked
from memory_commands import MemoryCommands

from cloud_tasks.config import load_config
from cloud_tasks.controller.autoscaler.policy import policy_of
from cloud_tasks.controller.controller import StopMode
from cloud_tasks.controller.setup.wiring import RunResources, assemble_controller
from cloud_tasks.model import LaunchRequest
from cloud_tasks.plugin import ComputeTraits


@pytest.mark.parametrize(("setting", "trait", "expected"), [(50, 3, 3), (2, 3, 2), (3, 3, 3)])
def test_parallel_launches_are_the_minimum_of_setting_and_trait(
    loop, store, queue, compute, setting: int, trait: int, expected: int
) -> None:
    registry = MemoryCommands(compute={"traits": ComputeTraits(max_parallel_launches=trait)}).registry
    options: dict[str, Any] = {
        "provider": "memory",
        "run.max_parallel_instance_creations": setting,
        "run.max_instances": 8,
    }
    started: Counter[datetime] = Counter()
    compute.before_launch = lambda request: started.update([loop.now()])

    def compose(offer, others, token) -> LaunchRequest:
        return LaunchRequest(client_token=token, job_id="job", offer=offer.offer, startup_script="", labels={})

    controller = assemble_controller(
        loop,
        RunResources(store=store, compute=compute, tasks=queue, events=FakeQueue(loop)),
        registry=registry,
        config=load_config(registry, file=None, options=options, environ={}),
        job_id="job",
        offers=(ranked("n-1", vcpus=1),),
        requests=SimpleNamespace(compose=compose),
        sinks=SimpleNamespace(write=lambda batch: None),
        on_progress=lambda progress: None,
    )
    loop.later(timedelta(seconds=50), lambda: controller.stop(StopMode.TERMINATE))
    controller.run()
    # The fake answers all launches after the same time, so that parallel launches start together.
    assert max(started.values()) == expected
    assert started.total() == 8


@pytest.mark.parametrize(
    ("enforces", "lifetime", "expected"),
    [(False, 3600.0, timedelta(seconds=3630)), (True, 3600.0, None), (False, 0.0, None), (False, None, None)],
)
def test_policy_has_the_maximum_lifetime_where_compute_does_not_enforce_it(
    enforces: bool, lifetime: float | None, expected: timedelta | None
) -> None:
    registry = MemoryCommands(compute={"traits": ComputeTraits(enforces_max_lifetime=enforces)}).registry
    options = {"provider": "memory", "run.max_lifetime": lifetime}
    assert policy_of(load_config(registry, file=None, options=options, environ={})).max_lifetime == expected
