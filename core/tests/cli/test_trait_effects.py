"""What commands do with the traits of the chosen backends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from memory_commands import MemoryCommands

from cloud_tasks.plugin import ComputeTraits

SIMULATION = ("rehearse", "--num-tasks", "4", "--task-time", "60", "--seeds", "1", "--json")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_simulation_compares_no_spot_instances_where_compute_has_none() -> None:
    def names(**traits: Any) -> set[str]:
        commands = MemoryCommands(compute={"traits": ComputeTraits(**traits)})
        return {entry["name"].split(",")[0] for entry in json.loads(commands.call(*SIMULATION).out)}

    assert names(spot=True) == {"on-demand", "spot"}
    assert names(spot=False) == {"on-demand"}
