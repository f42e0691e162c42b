"""Secrets that workers need: each command says how they get there, and refuses what nothing delivers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from memory_commands import Answer, MemoryCommands

from cloud_tasks.errors import InputError
from cloud_tasks.plugin import Reach, setting
from cloud_tasks.testing import MemoryProvider

SECRET = "SEKRET-4711"
VARIABLE = "CLOUD_TASKS_MEMORY_TOKEN"
FETCH = f'export {VARIABLE}="$(vault read token)"\n'


@attrs.frozen(kw_only=True)
class Settings:
    token: str | None = setting(help="Token", default=None, secret=True, worker=True)


def _commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, delivers: bool) -> MemoryCommands:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, SECRET)
    (tmp_path / "tasks.json").write_text(json.dumps([{"task_id": "a", "data": {}}]))
    provider = MemoryProvider()
    traits = attrs.evolve(provider.compute.traits, delivers_secrets=delivers)
    changes: dict[str, Any] = {"traits": traits}
    return MemoryCommands(provider=provider, queue={"settings": Settings}, compute=changes)


def _call(commands: MemoryCommands, *command: str, script: str) -> Answer:
    Path("start.sh").write_text(script)
    job = ("--job-id", "job") if command[0] == "run" else ()
    tasks = () if command[0] == "config" else ("--task-file", "tasks.json")
    given = ("--startup-script-file", "start.sh", "--max-instances", "1")
    if command[0] == "config":
        return commands.call("config", *command[1:], "--provider", "memory", *given, provider=False)
    return commands.call(command[0], *job, *tasks, *given, *command[1:])


COMMANDS = [
    ("config", "show"),
    ("config", "show", "--json"),
    ("plan",),
    ("plan", "--json"),
    ("run", "--dry-run"),
    ("run",),
    ("run", "--force"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_refuses_a_secret_that_nothing_delivers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    commands = _commands(tmp_path, monkeypatch, delivers=False)
    before = {path.name for path in tmp_path.iterdir()}
    refused = _call(commands, *command, script="#!/bin/bash\nwork\n")
    assert str(refused.error) == (
        f'{VARIABLE}: memory.token: the workers need it, compute "memory" cannot deliver secrets, and the startup '
        f"script does not export {VARIABLE}; add a line to the startup script that reads it from a secret store, such "
        f'as: export {VARIABLE}="$(COMMAND)"'
    )
    assert isinstance(refused.error, InputError)
    assert SECRET not in refused.out + refused.err
    assert commands.provider.instances.records == {}
    assert {path.name for path in tmp_path.iterdir()} - {"start.sh"} == before


@pytest.mark.parametrize(
    ("delivers", "script", "way"),
    [
        (True, "#!/bin/bash\nwork\n", 'delivered by compute "memory"'),
        (True, f"#!/bin/bash\n{FETCH}work\n", "set by the startup script"),
        (False, f"#!/bin/bash\n{FETCH}work\n", "set by the startup script"),
    ],
)
@pytest.mark.parametrize("command", [("plan",), ("run", "--dry-run")])
def test_command_shows_how_the_workers_get_a_secret(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    command: tuple[str, ...],
    delivers: bool,
    script: str,
    way: str,
) -> None:
    shown = _call(_commands(tmp_path, monkeypatch, delivers=delivers), *command, script=script)
    assert shown.error is None
    assert f"Secret memory.token: {way}, as {VARIABLE}" in shown.out + shown.err + caplog.text
    assert SECRET not in shown.out + shown.err + caplog.text


def test_plan_names_the_secrets_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _call(_commands(tmp_path, monkeypatch, delivers=True), "plan", "--json", script="#!/bin/bash\nwork\n")
    assert shown.data["secrets"] == [{"setting": "memory.token", "variable": VARIABLE, "set_by_startup_script": False}]


@pytest.mark.parametrize("command", [("status",), ("load-queue",), ("plan",)])
def test_command_that_starts_no_instance_needs_no_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    commands = _commands(tmp_path, monkeypatch, delivers=False)
    given = {
        "status": ("--job-id", "job"),
        "load-queue": ("--job-id", "job", "--task-file", "tasks.json"),
        "plan": ("--num-tasks", "1"),
    }[command[0]]
    answer = commands.call(*command, *given)
    assert "deliver" not in str(answer.error) + answer.out + answer.err
    assert SECRET not in str(answer.error) + answer.out + answer.err


def test_plugins_show_says_how_a_secret_reaches_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _commands(tmp_path, monkeypatch, delivers=False).call("plugins", "show", "memory", provider=False)
    assert "secret: never shown or stored; delivered to the workers by the compute backend" in shown.out
    assert SECRET not in shown.out


def test_command_refuses_a_script_that_is_not_for_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = _commands(tmp_path, monkeypatch, delivers=False)
    for command in COMMANDS:
        refused = _call(
            commands, *command, script=f"#!/usr/bin/env python3\nimport os\nos.environ['{VARIABLE}'] = 'x'\n"
        )
        assert 'the startup script is for "python3", not for a shell' in str(refused.error), command


def test_plan_shows_where_the_secrets_of_the_tasks_are_read_and_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN", SECRET)
    traits = attrs.evolve(MemoryProvider().compute.traits, location=Reach.SHARED_FILES)
    commands = MemoryCommands(compute={"traits": traits})
    (tmp_path / "config.yml").write_text(
        "run: {job_id: job, startup_script: work, secrets: {token: 'env:TOKEN', key: 'file:absent'}}"
    )
    shown = commands.call("plan", "--config", "config.yml", "--num-tasks", "1")
    assert "Secret token: from env:TOKEN, a file in CLOUD_TASKS_SECRETS_DIR of the tasks" in shown.out
    warning = f"Warning: config.yml:1: run.secrets.key: cannot read {tmp_path}/absent: No such file or directory"
    assert warning in shown.err.splitlines()
    as_json = commands.call("plan", "--config", "config.yml", "--num-tasks", "1", "--json")
    sources = [{"name": "token", "source": "env:TOKEN"}, {"name": "key", "source": "file:absent"}]
    assert as_json.data["task_secrets"] == sources
    configured = commands.call("config", "show", "--config", "config.yml", "--provider", "memory", provider=False)
    assert "env:TOKEN" in configured.out
    # Also without an instance to be started: before anything is created.
    (tmp_path / "tasks.json").write_text('[{"task_id": "a", "data": {}}]')
    refused = commands.call("run", "--config", "config.yml", "--task-file", "tasks.json")
    assert isinstance(refused.error, InputError)
    assert {path.name for path in tmp_path.iterdir()} == {"config.yml", "tasks.json"}
    assert SECRET not in str(refused.error) + "".join(f"{each.out}{each.err}" for each in (shown, as_json, configured))
