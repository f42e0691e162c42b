"""``rehearse``: the person's own offers, limits and tasks in the simulated cloud; nothing real is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import CommandLine
from store_facts import completed, new_store

CONFIG = """
provider: local
run: {job_id: job, max_instances: 3, max_total_cost: 0.0001}
local: {vcpus: 2, price_per_cpu_hour: 0.5, spot_price_factor: 0.2}
"""
JOB = ("simulate", "--config", "config.yml", "--num-tasks", "30", "--task-time", "60", "--seeds", "2")


@pytest.fixture
def project(shell: CommandLine) -> CommandLine:
    (shell.folder / "config.yml").write_text(CONFIG, encoding="utf-8")
    return shell


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_spot_and_on_demand_are_compared_and_nothing_is_left(project: CommandLine) -> None:
    first = project.run(*JOB, "--json")
    assert first.code == 0, first.err
    found = {entry["name"]: entry for entry in json.loads(first.out)}
    assert set(found) == {"on-demand", "spot", "on-demand, 1 vCPUs only", "on-demand, 2 vCPUs only"}
    assert max(map(float, found["spot"]["costs"])) < min(map(float, found["on-demand"]["costs"]))
    # 30 minutes of work on at most 6 slots.
    assert all(seconds >= 300 for seconds in found["on-demand"]["durations_seconds"])
    assert found["on-demand"]["over_max_total_cost"] == 2
    assert files(project.folder) == ["config.yml"]
    assert project.run(*JOB, "--json").out == first.out


def test_task_times_are_drawn_from_a_job_that_ran(project: CommandLine) -> None:
    folder = project.folder
    with new_store(folder, ["a", "b"], name="sample.db") as store:
        store.apply_events([completed("a", elapsed=10.0), completed("b", elapsed=1000.0)])
    found = json.loads(
        project.run("simulate", "--config", "config.yml", "--num-tasks", "1", "--sample-db", "sample.db", "--json").out
    )
    spans = {round((seconds - 60) / 100) for seconds in found[0]["durations_seconds"]}
    assert spans == {0, 10}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--num-tasks", "5"], "the time of a task is not known"),
        (["--task-time", "5"], "the number of tasks is not known"),
        (["--num-tasks", "5", "--task-time-deviation", "5"], "belongs to --task-time"),
        (["--num-tasks", "5", "--task-time", "5", "--min-cpu", "64"], "no instance type satisfies the constraints"),
        (["--seeds", "0"], "--seeds"),
    ],
)
def test_bad_input_is_one_line(project: CommandLine, arguments: list[str], reason: str) -> None:
    refused = project.run("simulate", "--config", "config.yml", *arguments)
    assert refused.code == 2
    (line,) = refused.err.splitlines()
    assert reason in line
