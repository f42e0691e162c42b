"""Another plugin that cannot even be imported: one warning line, and nothing else is different."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A path on which a distribution stands whose plugin needs a module that nobody has."""
    site = tmp_path_factory.mktemp("site")
    (site / "cloud_tasks_misty.py").write_text("import a_library_that_nobody_has\n")
    described = site / "cloud_tasks_misty-2.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: cloud-tasks-misty\nVersion: 2.0\n")
    (described / "entry_points.txt").write_text("[cloud_tasks]\nmisty = cloud_tasks_misty\n")
    return {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}


def warnings(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if "misty" in line]


def test_help_and_version_do_not_even_look_at_it(desk: Any, environment: dict[str, str]) -> None:
    for option in ("--help", "--version"):
        answer = desk.run(option, env=environment)
        assert (answer.returncode, answer.stderr) == (0, "")


def test_plugins_shows_it_as_broken_and_the_others_as_they_are(desk: Any, environment: dict[str, str]) -> None:
    answer = desk.run("plugins", env=environment)
    assert answer.returncode == 0
    (line,) = warnings(answer.stdout)
    assert "cloud-tasks-misty 2.0" in line
    assert "a_library_that_nobody_has" in line
    assert len(warnings(answer.stderr)) == 1
    assert any(row.startswith("local ") and "BROKEN" not in row for row in answer.stdout.splitlines())


def test_a_local_job_runs_with_one_warning(desk: Any, environment: dict[str, str]) -> None:
    arguments = ("--config", str(desk.configure()), "--task-file", str(desk.tasks(5)))
    job = desk.run("run", *arguments, env=environment)
    assert job.returncode == 0, job.stderr
    (warning,) = warnings(job.stderr)
    assert warning.startswith("Warning: ")
    assert len(desk.sums()) == 5


def test_a_job_that_needs_it_gets_the_plugin_its_distribution_and_the_cause(
    desk: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    desk.configure()
    arguments = ("--config", "config.yml", "--provider", "misty", "--task-file", str(desk.tasks(5)))
    job = desk.run("run", *arguments, env=environment)
    assert job.returncode in (1, 2)
    (error,) = [line for line in job.stderr.splitlines() if line.startswith("Error: ")]
    for part in ('"misty"', "cloud-tasks-misty 2.0", "a_library_that_nobody_has"):
        assert part in error
    assert desk.left_behind() == []
