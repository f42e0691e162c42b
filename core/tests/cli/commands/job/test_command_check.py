"""``run.command``: checked with the first task by every command that reads tasks, and shown by ``plan``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from memory_commands import Answer, MemoryCommands

from cloud_tasks.errors import InputError
from cloud_tasks.plugin import ComputeTraits, Reach

TASKS = [{"id": f"s0{n}", "data": {"sample": f"s0{n}", "fastq_1": f"{n} a.fq", "g": "$(touch pwned)"}} for n in (1, 2)]
READERS = [("plan",), ("plan", "--json"), ("run", "--dry-run"), ("run",), ("run", "--force"), ("load-queue",)]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryCommands:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.json").write_text(json.dumps(TASKS), encoding="utf-8")
    return MemoryCommands()


def call(commands: MemoryCommands, command: tuple[str, ...], template: str, *arguments: str) -> Answer:
    job = ("--job-id", "job") if command[0] != "plan" else ()
    limit = ("--max-instances", "1") if command[0] != "load-queue" else ()
    return commands.call(*command, *job, *limit, "--task-file", "tasks.json", "--command", template, *arguments)


@pytest.mark.parametrize("command", READERS, ids=" ".join)
@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("cat {fastq1}", "the task's data has no field for {fastq1}; did you mean {fastq_1}?"),
        ("bash -c 'echo {g}'", "{g} is not data there: bash executes it as code; use bash -c 'echo \"$1\"' _ {g}"),
        ("awk '{print}' {fastq_1}", "(braces of the shell: {{print}})"),
    ],
)
def test_template_is_refused_before_anything_is_created(
    commands: MemoryCommands, tmp_path: Path, command: tuple[str, ...], template: str, problem: str
) -> None:
    answer = call(commands, command, template)
    assert isinstance(answer.error, InputError)
    assert str(answer.error).startswith("--command: run.command: ")
    assert problem in str(answer.error)
    assert [file.name for file in tmp_path.iterdir()] == ["tasks.json"]


def test_plan_shows_the_command_and_where_it_runs(commands: MemoryCommands, tmp_path: Path) -> None:
    template = "cat {fastq_1} >\nout/{sample}.txt"
    answer = call(commands, ("plan",), template, "--shell", "sh")
    assert "Command: cat {fastq_1} >\n         out/{sample}.txt\nShell:   sh\n" in answer.out
    assert "Folder:  an instance, where its relative paths are, too" in answer.out
    assert json.loads(call(commands, ("plan", "--json"), template).out)["command"] == template
    for traits in (ComputeTraits(shares_files=True), ComputeTraits(location=Reach.SHARED_FILES)):
        here = MemoryCommands(compute={"traits": traits})
        shown = call(here, ("plan",), template).out
        assert f"Shell:   bash -euo pipefail\nFolder:  {tmp_path}\n" in shown
