"""Effects of backend traits on commands."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from memory_commands import MemoryCommands

from cloud_tasks.plugin import ComputeTraits, QueueTraits

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


RUN = (
    "run",
    "--dry-run",
    "--job-id",
    "job",
    "--startup-script",
    "true",
    "--db-file",
    "job.db",
    "--task-file",
    "t.json",
)
PLAN = ("plan", "--num-tasks", "4")


def lines_of(command: tuple[str, ...], *arguments: str, **backends: Any) -> str:
    """Return the stderr of a command that succeeds."""
    Path("t.json").write_text('[{"task_id": "a", "data": {}}]', encoding="utf-8")
    answer = MemoryCommands(**backends).call(*command, *arguments)
    assert answer.error is None
    assert answer.code == 0
    return answer.err


@pytest.mark.parametrize("command", [RUN, PLAN], ids=["run", "plan"])
def test_warning_for_more_parallel_launches_than_compute_supports(command: tuple[str, ...]) -> None:
    compute = {"traits": ComputeTraits(max_parallel_launches=7)}
    wanted = "--max-parallel-instance-creations"
    warning = (
        f'{wanted}: run.max_parallel_instance_creations: 50 is more than compute "memory" supports; 7 are launched'
    )
    assert warning in lines_of(command, wanted, "50", compute=compute)
    # Neither a smaller number nor the default is worth a warning.
    assert "compute" not in lines_of(command, wanted, "7", compute=compute)
    assert "compute" not in lines_of(command, compute=compute)


def test_configuration_summary_shows_the_smaller_number_of_parallel_launches() -> None:
    def shown(setting: str, trait: int) -> str:
        compute = {"traits": ComputeTraits(max_parallel_launches=trait)}
        text = lines_of(RUN, "--max-parallel-instance-creations", setting, compute=compute)
        return text.split("Max parallel instance creations: ")[1].splitlines()[0]

    assert [shown("50", 7), shown("3", 7), shown("7", 7)] == ["7", "3", "7"]


@pytest.mark.parametrize("command", [RUN, PLAN], ids=["run", "plan"])
def test_warning_for_max_runtime_beyond_the_total_lease(command: tuple[str, ...]) -> None:
    def printed(seconds: str, total: timedelta | None) -> str:
        traits = QueueTraits(
            max_lease=timedelta(hours=1), max_message_bytes=1000, receive_batch=1, send_batch=1, total_lease=total
        )
        return lines_of(command, "--max-runtime", seconds, "--max-lifetime", "unlimited", queue={"traits": traits})

    half_a_day = timedelta(hours=12)
    warning = '--max-runtime: run.max_runtime: 1d 0h 0m 0s is more than the total lease of queue "memory", 12h 0m 0s: '
    assert warning in printed("86400", half_a_day)
    assert "total lease" in printed("43200.5", half_a_day)
    assert "total lease" in printed("3e8", half_a_day)
    assert "total lease" not in printed("43200", half_a_day)
    assert "total lease" not in printed("3e8", None)


@pytest.mark.parametrize("command", [RUN, PLAN], ids=["run", "plan"])
def test_warning_for_max_lifetime_that_compute_does_not_enforce(command: tuple[str, ...]) -> None:
    def printed(seconds: str, *, enforces: bool) -> str:
        compute = {"traits": ComputeTraits(enforces_max_lifetime=enforces)}
        return lines_of(command, "--max-lifetime", seconds, compute=compute)

    warning = '--max-lifetime: run.max_lifetime: compute "memory" does not enforce it; instances older than 1h 0m 0s'
    assert warning in printed("3600", enforces=False)
    assert "does not enforce" not in printed("3600", enforces=True)
    assert "does not enforce" not in printed("unlimited", enforces=False)
