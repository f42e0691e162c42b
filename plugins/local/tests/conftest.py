"""Fixtures: a state folder per test, and termination of all its instances."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloud_tasks.plugin import ComputeContext
from cloud_tasks_local.compute import LocalCompute
from cloud_tasks_local.settings import LocalSettings

Eventually = Callable[[Callable[[], object]], None]


@pytest.fixture
def settings(tmp_path: Path) -> LocalSettings:
    return LocalSettings(state_dir=tmp_path / "state", shutdown_grace=1.0)


@pytest.fixture
def compute(settings: LocalSettings) -> Iterator[LocalCompute]:
    compute = LocalCompute(settings, ComputeContext(job_id="job"))
    yield compute
    compute.terminate([instance.instance_id for instance in compute.instances(None)])


@pytest.fixture
def eventually() -> Eventually:
    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < deadline, "condition not met within 20 s"
            time.sleep(0.005)

    return wait
