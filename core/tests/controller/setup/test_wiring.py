"""Wiring: the controller follows the traits of the configured compute backend."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from controller_fakes import FakeQueue, ranked
from memory_commands import MemoryCommands

from cloud_tasks.config import load_config
from cloud_tasks.controller.autoscaler.policy import own_end_of, policy_of
from cloud_tasks.controller.controller import StopMode
from cloud_tasks.controller.setup.wiring import RunResources, assemble_controller
from cloud_tasks.errors import InputError
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

    def compose(offer, others, token, lifetime) -> LaunchRequest:
        return LaunchRequest(client_token=token, job_id="job", offer=offer.offer, startup_script="", labels={})

    controller = assemble_controller(
        loop,
        RunResources(store=store, compute=compute, tasks=queue, events=FakeQueue(loop)),
        registry=registry,
        config=load_config(registry, file=None, options=options, environ={}),
        job_id="job",
        offers=(ranked("n-1", vcpus=1),),
        requests=SimpleNamespace(compose=compose, finish=lambda request: request),
        sinks=SimpleNamespace(write=lambda batch: None),
        on_progress=lambda progress: None,
    )
    loop.later(timedelta(seconds=50), lambda: controller.stop(StopMode.TERMINATE))
    controller.run()
    # The fake answers all launches after the same time, so that parallel launches start together.
    assert max(started.values()) == expected
    assert started.total() == 8


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (3600.0, timedelta(hours=1)),
        (None, timedelta(days=1)),
        ("unlimited", None),
        ("Unlimited ", None),
    ],
)
@pytest.mark.parametrize(("enforces", "grace"), [(False, 30), (True, 330)])
def test_policy_has_the_lifetime_and_the_time_after_which_the_controller_ends_it(
    given: float | str | None, expected: timedelta | None, enforces: bool, grace: float
) -> None:
    registry = MemoryCommands(compute={"traits": ComputeTraits(enforces_max_lifetime=enforces)}).registry
    options = {"provider": "memory", "run.max_lifetime": given}
    policy = policy_of(load_config(registry, file=None, options=options, environ={}))
    assert (policy.max_lifetime, policy.deadline_grace) == (expected, timedelta(seconds=grace))


@pytest.mark.parametrize(
    ("enforces", "startup", "expected"), [(False, 600, None), (True, 600, 930), (True, 60, 390), (True, 0, 630)]
)
def test_own_end_of_an_instance_includes_its_boot_and_its_shutdown(
    enforces: bool, startup: float, expected: float | None
) -> None:
    registry = MemoryCommands(compute={"traits": ComputeTraits(enforces_max_lifetime=enforces)}).registry
    options = {"provider": "memory", "run.keepalive_startup_timeout": startup, "run.shutdown_grace_period": 30}
    own_end = own_end_of(load_config(registry, file=None, options=options, environ={}))
    assert own_end == (None if expected is None else timedelta(seconds=expected))


@pytest.mark.parametrize("given", ["0", "0s", "-1", "none", "never", "inf", "unlimited 1h"])
def test_only_the_word_unlimited_removes_the_limit_on_the_lifetime(given: str) -> None:
    options = {"provider": "memory", "run.max_lifetime": given}
    with pytest.raises(InputError):
        load_config(MemoryCommands().registry, file=None, options=options, environ={})


@pytest.mark.parametrize("blank", ["", " null", " ~"])
def test_blank_lifetime_counts_as_not_given(blank: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text(f"provider: memory\nrun:\n  max_lifetime:{blank}\n  idle_limit:{blank}\n")
    config = load_config(MemoryCommands().registry, file=file, options={}, environ={"CLOUD_TASKS_MAX_LIFETIME": " "})
    assert (config.max_lifetime, config.run.idle_limit) == (timedelta(days=1), 900.0)
    file.write_text("provider: memory\nrun:\n  max_lifetime: unlimited\n")
    config = load_config(MemoryCommands().registry, file=file, options={}, environ={})
    assert (config.max_lifetime, config.as_dict()["run"]["max_lifetime"]) == (None, "unlimited")
