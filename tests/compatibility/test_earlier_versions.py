"""Databases and configurations written by earlier versions of cloud-tasks still work: see `make_fixtures.py`.

Each folder beside this file that has databases in it holds what one version wrote.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PROGRAM = Path(sys.executable).with_name("cloud-tasks")
VERSIONS = sorted(file.parent for file in HERE.glob("*/finished.db"))
TOTALS = {"finished": 22, "interrupted": 60, "stopped": 60, "loaded": 6, "spot": 40}
JOBS = [pytest.param(version, job, id=f"{version.name}-{job}") for version in VERSIONS for job in TOTALS]
UNFINISHED = [parameter for parameter in JOBS if "finished" not in str(parameter.id).split("-")]
CONFIGURATIONS = [
    pytest.param(file, id=f"{version.name}-{file.stem}")
    for version in VERSIONS
    for file in sorted((version / "configs").glob("*.yml"))
]


def cloud_tasks(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the program in a folder and check its exit code."""
    ended = subprocess.run(
        [str(PROGRAM), *arguments], cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert ended.returncode == code, ended.stderr
    return ended


@pytest.fixture
def folder(tmp_path: Path, version: Path, job: str) -> Path:
    """A folder with a copy of the job's database, its configuration and the program."""
    for file in (HERE / "jobs" / "program.py", version / f"{job}.db", version / f"{job}.yml"):
        shutil.copy(file, tmp_path)
    return tmp_path


def status(folder: Path, job: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(cloud_tasks(folder, "status", "--db-file", f"{job}.db", "--json").stdout)
    return facts


def failures(facts: dict[str, Any]) -> int:
    """Return the number of failed tasks of a status."""
    return sum(facts["counts"][name] for name in ("failed", "timed_out", "exited", "dead"))


@pytest.mark.parametrize(("version", "job"), JOBS)
def test_status_counts_every_task(folder: Path, version: Path, job: str) -> None:
    facts = status(folder, job)
    assert facts["total"] == TOTALS[job]
    assert facts["finished"] is (job == "finished")


@pytest.mark.parametrize(("version", "job"), JOBS)
@pytest.mark.parametrize("form", ["text", "json", "markdown", "html"])
def test_report_has_the_job_and_all_its_tasks(folder: Path, version: Path, job: str, form: str) -> None:
    report = cloud_tasks(folder, "report", "--db-file", f"{job}.db", "--format", form).stdout
    assert str(TOTALS[job]) in report


@pytest.mark.parametrize(("version", "job"), JOBS)
def test_export_gives_every_row(folder: Path, version: Path, job: str) -> None:
    options = ("--db-file", f"{job}.db", "--format", "jsonl")
    tasks = [json.loads(line) for line in cloud_tasks(folder, "export", "tasks", *options).stdout.splitlines()]
    assert len({task["task_id"] for task in tasks}) == TOTALS[job]
    for table in ("attempts", "events"):
        rows = cloud_tasks(folder, "export", table, *options).stdout.splitlines()
        assert bool(rows) is (job != "loaded")


def test_finished_job_keeps_every_terminal_status(tmp_path: Path) -> None:
    for version in VERSIONS:
        shutil.copy(version / "finished.db", tmp_path)
        counts = status(tmp_path, "finished")["counts"]
        assert {name: counts[name] for name in ("completed", "failed", "timed_out", "exited", "dead")} == {
            "completed": 14, "failed": 3, "timed_out": 1, "exited": 2, "dead": 2,
        }  # fmt: skip


@pytest.mark.parametrize(("version", "job"), UNFINISHED)
def test_continue_brings_every_task_to_a_terminal_state(folder: Path, version: Path, job: str) -> None:
    before = status(folder, job)
    # The simulated interruptions of the spot job are over: whether a task survives them is not the question here.
    calm = ("--set", "local.spot_mean_lifetime=3600") if job == "spot" else ()
    # Tasks that failed before keep their status, and the exit code counts them.
    code = 3 if failures(before) else 0
    cloud_tasks(folder, "run", "--config", f"{job}.yml", "--continue", *calm, code=code)
    facts = status(folder, job)
    assert facts["finished"] is True
    assert facts["counts"]["completed"] >= max(before["counts"]["completed"], TOTALS[job] - 4)
    assert failures(facts) == failures(before)
    rows = cloud_tasks(folder, "export", "tasks", "--db-file", f"{job}.db", "--format", "jsonl").stdout.splitlines()
    assert len({json.loads(row)["task_id"] for row in rows}) == len(rows) == TOTALS[job]


@pytest.mark.parametrize("file", CONFIGURATIONS)
def test_configuration_gives_the_same_values(file: Path) -> None:
    shown = json.loads(cloud_tasks(file.parent, "config", "show", "--config", file.name, "--json").stdout)
    expected = json.loads(file.with_suffix(".json").read_text())
    values = dict(_leaves(shown))
    assert {key: values[key] for key in expected} == expected


def _leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if set(value) == {"value", "origin"}:
            yield prefix + key, value["value"]
        else:
            yield from _leaves(value, f"{prefix}{key}.")
