"""``simulate``: the job's own offers, limits and tasks on simulated instances; changes nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
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


def test_simulate_compares_spot_and_on_demand_and_leaves_nothing(project: CommandLine) -> None:
    first = project.run(*JOB, "--json")
    assert first.code == 0, first.err
    found = {entry["name"]: entry for entry in json.loads(first.out)}
    assert set(found) == {"on-demand", "spot", "on-demand, 1 vCPU only", "on-demand, 2 vCPUs only"}
    assert max(map(float, found["spot"]["costs"])) < min(map(float, found["on-demand"]["costs"]))
    # 30 minutes of work on at most 6 slots.
    assert all(seconds >= 300 for seconds in found["on-demand"]["durations_seconds"])
    assert found["on-demand"]["over_max_total_cost"] == 2
    assert files(project.folder) == ["config.yml"]
    assert project.run(*JOB, "--json").out == first.out


def test_simulate_draws_task_durations_from_a_finished_job(project: CommandLine) -> None:
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
        (["--num-tasks", "5"], "unknown task duration"),
        (["--task-time", "5"], "unknown number of tasks"),
        (["--num-tasks", "5", "--task-time-deviation", "5"], "requires --task-time"),
        (["--num-tasks", "5", "--task-time", "5", "--min-cpu", "64"], "no instance type satisfies the constraints"),
        (["--seeds", "0"], "--seeds"),
    ],
)
def test_simulate_reports_bad_input_in_one_line(project: CommandLine, arguments: list[str], reason: str) -> None:
    refused = project.run("simulate", "--config", "config.yml", *arguments)
    assert refused.code == 2
    (line,) = refused.err.splitlines()
    assert reason in line


def test_simulate_accepts_its_former_name_with_a_warning(project: CommandLine) -> None:
    current = project.run(*JOB, "--json")
    former = project.run("rehearse", *JOB[1:], "--json")
    assert (former.code, former.out) == (0, current.out)
    warning, *rest = former.err.splitlines()
    assert warning == 'Warning: command "rehearse" was renamed; use "simulate"'
    assert rest == current.err.splitlines()
    assert "rehearse" not in project.run("--help").out


def test_simulate_imports_no_test_kit(project: CommandLine) -> None:
    """Importing pytest, which only the extra ``testing`` installs, fails here."""
    program = (
        "import sys\n"
        "sys.modules['pytest'] = None\n"
        "from cloud_tasks.cli.main import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "finally:\n"
        "    print(*(name for name in sys.modules if name.startswith('cloud_tasks.')), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", program, *JOB, "--json"]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == project.run(*JOB, "--json").out
    loaded = set(done.stderr.split())
    assert "cloud_tasks.estimate.simulate" in loaded
    assert not {name for name in loaded if name.startswith("cloud_tasks.testing")}


def test_simulate_shows_interruptions_in_text(project: CommandLine) -> None:
    job = ("simulate", "--config", "config.yml", "--use-spot", "--task-time", "60", "--seeds", "1")
    interrupted = project.run(*job, "--num-tasks", "300", "--spot-lifetime", "600")
    assert interrupted.code == 0, interrupted.err
    assert interrupted.out.startswith("1 simulated run of each variant; 10% / median / 90%\nVariant ")
    assert re.search(
        r"^spot: \d+ spot interruptions, \d+ interrupted attempts \(median\)$", interrupted.out, re.MULTILINE
    )
