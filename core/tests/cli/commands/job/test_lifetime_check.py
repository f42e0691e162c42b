"""A time limit for tasks that no instance lives for is refused at the start; the default only causes a warning."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest
from memory_commands import Answer, MemoryCommands
from store_facts import JOB, at, instance, launch_request

from cloud_tasks.errors import InputError
from cloud_tasks.model import Task
from cloud_tasks.store import JobState, Store

COMMANDS = [("plan",), ("run", "--dry-run"), ("run", "--force")]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryCommands:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "start.sh").write_text("#!/bin/bash\necho worker\n", encoding="utf-8")
    (tmp_path / "tasks.json").write_text(json.dumps([{"task_id": "a", "data": {}}]), encoding="utf-8")
    return MemoryCommands()


def call(commands: MemoryCommands, command: tuple[str, ...], *arguments: str) -> Answer:
    name, *options = command
    job = () if name == "plan" else ("--job-id", "job")
    given = ("--task-file", "tasks.json", "--startup-script-file", "start.sh", "--max-instances", "1")
    return commands.call(name, *job, *options, *given, *arguments)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ("--max-runtime", "2h", "--max-lifetime", "1h"),
            "2h and up to 10m for the start (keepalive_startup_timeout) are more than an instance lives, 1h "
            "(max_lifetime); lower max_runtime or keepalive_startup_timeout, or raise max_lifetime",
        ),
        (("--max-runtime", "24h"), "are more than an instance lives, "),
        (
            ("--max-runtime", "100h", "--max-lifetime", "unlimited", "--max-total-cost", "0.01"),
            "$0.01 (max_total_cost)",
        ),
    ],
)
def test_max_runtime_that_no_instance_lives_for_is_refused(
    commands: MemoryCommands, tmp_path: Path, command: tuple[str, ...], options: tuple[str, ...], expected: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    answer = call(commands, command, *options)
    assert isinstance(answer.error, InputError)
    assert str(answer.error).startswith("--max-runtime: run.max_runtime: ")
    assert expected in str(answer.error)
    assert sorted(tmp_path.rglob("*")) == before
    assert not commands.provider.instances.ours()


@pytest.mark.parametrize("command", COMMANDS[:2])
def test_default_max_runtime_that_no_instance_lives_for_causes_a_warning(
    commands: MemoryCommands, command: tuple[str, ...]
) -> None:
    answer = call(commands, command, "--max-lifetime", "30m")
    assert answer.code == 0
    assert "longer tasks may be interrupted at the end of an instance" in answer.err


@pytest.mark.parametrize("command", COMMANDS[:2])
@pytest.mark.parametrize(
    "options", [(), ("--max-lifetime", "unlimited", "--max-runtime", "300d"), ("--max-runtime", "23h 45m")]
)
def test_max_runtime_within_the_lifetime_is_accepted(
    commands: MemoryCommands, command: tuple[str, ...], options: tuple[str, ...]
) -> None:
    answer = call(commands, command, *options)
    assert (answer.code, "max_runtime" in answer.err) == (0, False)


@pytest.mark.parametrize("command", COMMANDS)
def test_budget_that_pays_for_no_instance_is_refused(
    commands: MemoryCommands, tmp_path: Path, command: tuple[str, ...]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    answer = call(commands, command, "--max-total-cost", "0.0001")
    assert isinstance(answer.error, InputError)
    assert "run.max_total_cost: $0.0001 pays for less than 5m of an instance; raise it to $" in str(answer.error)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def existing(commands: MemoryCommands, tmp_path: Path) -> MemoryCommands:
    """Job with an instance that cost a dollar."""
    record = attrs.evolve(JOB, provider="memory", queue="memory", compute="memory", task_source="tasks.json")
    with Store.create(tmp_path / "job.db", record, durable=False) as store:
        store.load_tasks([Task(task_id="a", data={})])
        store.record_intents([launch_request("t1", price="1")], at(0))
        store.record_launched("t1", instance("i1", "t1"))
        store.record_ended("i1", at(3600), "surplus")
        store.set_state(JobState.RUNNING, at(3600))
    return commands


def resume(commands: MemoryCommands, *arguments: str) -> Answer:
    given = ("--job-id", "job", "--continue", "--dry-run", "--startup-script-file", "start.sh")
    return commands.call("run", *given, *arguments)


@pytest.mark.parametrize(
    "options",
    [
        ("--max-runtime", "2h", "--max-lifetime", "1h"),
        ("--max-runtime", "100h", "--max-total-cost", "1.01", "--max-lifetime", "unlimited"),
    ],
)
def test_max_runtime_that_no_instance_lives_for_is_refused_for_a_resumed_job(
    existing: MemoryCommands, options: tuple[str, ...]
) -> None:
    answer = resume(existing, *options)
    assert isinstance(answer.error, InputError)
    assert "run.max_runtime: " in str(answer.error)


def test_dry_run_of_a_job_beyond_its_budget_fails(existing: MemoryCommands) -> None:
    answer = resume(existing, "--max-total-cost", "0.5")
    assert answer.code == 1
    assert "cost limit reached: $1.00 of $0.50 spent (max_total_cost); raise it to resume the job" in answer.err
    assert resume(existing, "--max-total-cost", "5").code == 0
