"""An installed plugin that cannot be imported: one warning line, no other effect."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A path with a distribution whose plugin requires a missing module."""
    site = tmp_path_factory.mktemp("site")
    (site / "cloud_tasks_misty.py").write_text("import a_missing_library\n")
    described = site / "cloud_tasks_misty-2.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: cloud-tasks-misty\nVersion: 2.0\n")
    (described / "entry_points.txt").write_text("[cloud_tasks]\nmisty = cloud_tasks_misty\n")
    return {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}


def warnings(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if "misty" in line]


def test_help_and_version_do_not_import_a_broken_plugin(desk: Any, environment: dict[str, str]) -> None:
    for option in ("--help", "--version"):
        answer = desk.run(option, env=environment)
        assert (answer.returncode, answer.stderr) == (0, "")


def test_plugins_command_shows_a_broken_plugin_and_the_working_ones(desk: Any, environment: dict[str, str]) -> None:
    answer = desk.run("plugins", env=environment)
    assert answer.returncode == 0
    (line,) = warnings(answer.stdout)
    assert "cloud-tasks-misty" in line
    assert "a_missing_library" in line
    assert len(warnings(answer.stderr)) == 1
    assert any(row.startswith("local ") and "BROKEN" not in row for row in answer.stdout.splitlines())


def test_local_job_with_a_broken_plugin_runs_with_one_warning(desk: Any, environment: dict[str, str]) -> None:
    arguments = ("--config", str(desk.configure()), "--task-file", str(desk.tasks(5)))
    job = desk.run("run", *arguments, env=environment)
    assert job.returncode == 0, job.stderr
    (warning,) = warnings(job.stderr)
    assert warning.startswith("Warning: ")
    assert len(desk.sums()) == 5


def test_job_that_selects_a_broken_plugin_fails_with_plugin_distribution_and_cause(
    desk: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    desk.configure()
    arguments = ("--config", "config.yml", "--provider", "misty", "--task-file", str(desk.tasks(5)))
    job = desk.run("run", *arguments, env=environment)
    assert job.returncode in (1, 2)
    (error,) = [line for line in job.stderr.splitlines() if line.startswith("Error: ")]
    for part in ('"misty"', "cloud-tasks-misty 2.0", "a_missing_library"):
        assert part in error
    assert desk.left_behind() == []
