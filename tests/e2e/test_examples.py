"""The example programs, run directly as described in their README."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "parallel_addition"


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A file with the first 12 tasks of the example."""
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps(json.loads((EXAMPLE / "addition_tasks.json").read_text())[:12]))
    return file


def sums(folder: Path) -> dict[str, int]:
    return {file.stem: int(file.read_text()) for file in folder.glob("*.txt")}


def expected(tasks: Path) -> dict[str, int]:
    return {task["id"]: task["data"]["num1"] + task["data"]["num2"] for task in json.loads(tasks.read_text())}


def test_task_generator_reproduces_the_task_file_exactly(python: Any, tmp_path: Path) -> None:
    answer = python([str(EXAMPLE / "make_addition_tasks.py"), "again.json"], {})
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "again.json").read_bytes() == (EXAMPLE / "addition_tasks.json").read_bytes()


def test_task_file_has_ten_thousand_tasks_with_unique_ids() -> None:
    content = json.loads((EXAMPLE / "addition_tasks.json").read_text())
    assert [task["id"] for task in content] == [f"addition-task-{number:06d}" for number in range(1, 10_001)]
    assert all(-100_000 <= number <= 100_000 for task in content for number in task["data"].values())


@pytest.mark.parametrize("options", [[], ["--num-simultaneous-tasks", "10"]], ids=["one at a time", "ten at a time"])
def test_worker_runs_a_task_file_without_a_job(python: Any, tmp_path: Path, tasks: Path, options: list[str]) -> None:
    arguments = [str(EXAMPLE / "worker_addition.py"), "--task-file", str(tasks), *options]
    answer = python(arguments, {"ADDITION_OUTPUT_DIR": str(tmp_path / "results")})
    assert answer.returncode == 0, answer.stderr
    assert sums(tmp_path / "results") == expected(tasks)
    events = [json.loads(line) for line in (tmp_path / "events.log").read_text().splitlines()]
    assert sum(event["event_type"] == "task_completed" for event in events) == 12


def test_worker_writes_results_to_any_fsspec_url(python: Any, tmp_path: Path, tasks: Path) -> None:
    arguments = [str(EXAMPLE / "worker_addition.py"), "--task-file", str(tasks)]
    answer = python(arguments, {"ADDITION_OUTPUT_DIR": f"file://{tmp_path}/by/url"})
    assert answer.returncode == 0, answer.stderr
    assert sums(tmp_path / "by" / "url") == expected(tasks)


def test_worker_does_not_import_fsspec_for_a_local_folder(python: Any, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(EXAMPLE)!r}); import worker_addition\n"
        "worker_addition.process_task('t', {'num1': 1, 'num2': 2}, None)\n"
        "sys.exit('fsspec' in sys.modules)"
    )
    answer = python(["-c", program], {"ADDITION_OUTPUT_DIR": str(tmp_path / "results")})
    assert answer.returncode == 0, answer.stderr
    assert sums(tmp_path / "results") == {"t": 3}


def test_task_factory_creates_the_tasks(python: Any, tmp_path: Path) -> None:
    environment = {"ADDITION_OUTPUT_DIR": str(tmp_path / "results"), "ADDITION_MAX_TASKS": "7"}
    answer = python([str(EXAMPLE / "worker_addition_factory.py")], environment)
    assert answer.returncode == 0, answer.stderr
    assert sorted(sums(tmp_path / "results")) == [f"addition-task-{number:06d}" for number in range(1, 8)]


@pytest.mark.parametrize("kind", ["EXCEPTION", "EXIT", "TIMEOUT"])
def test_failure_probability_1_fails_every_task(python: Any, tmp_path: Path, tasks: Path, kind: str) -> None:
    arguments = [str(EXAMPLE / "worker_addition_exceptions.py"), "--task-file", str(tasks), "--max-runtime", "1"]
    environment = {"ADDITION_OUTPUT_DIR": str(tmp_path / "results"), f"ADDITION_{kind}_PROBABILITY": "1"}
    answer = python([*arguments, "--num-simultaneous-tasks", "12"], environment)
    assert "Traceback (most recent call last)" not in answer.stderr or kind == "EXCEPTION"
    events = [json.loads(line) for line in (tmp_path / "events.log").read_text().splitlines()]
    wanted = {"EXCEPTION": "task_exception", "EXIT": "task_exited", "TIMEOUT": "task_timed_out"}[kind]
    assert sum(event["event_type"] == wanted for event in events) == 12
    assert sums(tmp_path / "results") == {}
