"""Launches that cannot succeed: rejected before anything is created, or reported as the error of the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from memory_commands import Answer, MemoryCommands

from cloud_tasks.errors import CloudTasksError, InputError, LaunchFailedError
from cloud_tasks.model import Instance, LaunchRequest
from cloud_tasks.testing.fakes.memory_compute import MemoryCompute

SCRIPT = "#!/bin/bash\necho worker-of-this-job\n"
LARGEST = 5_000


def check_launch(settings: Any, request: LaunchRequest) -> None:
    """Check the length of the startup script and the image, like a provider."""
    size = len(request.startup_script.encode())
    if size > LARGEST:
        raise InputError(f"the startup script has {size} bytes; {LARGEST} are allowed", where="run.startup_script")
    if request.image == "windows-95":
        raise InputError('there is no image "windows-95"', where="run.image")
    assert request.offer.instance_type.name.startswith("memory-")


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryCommands:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "start.sh").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "long.sh").write_text(SCRIPT + "# and so on\n" * 500, encoding="utf-8")
    (tmp_path / "tasks.json").write_text(json.dumps([{"task_id": "a", "data": {}}]), encoding="utf-8")
    return MemoryCommands(compute={"check_launch": check_launch})


def call(commands: MemoryCommands, command: str, *arguments: str, script: str = "start.sh") -> Answer:
    job = ("--job-id", "job") if command != "plan" else ()
    return commands.call(
        command, *job, "--task-file", "tasks.json", "--startup-script-file", script, "--max-instances", "1", *arguments
    )


@pytest.mark.parametrize("command", [("plan",), ("plan", "--json"), ("run", "--dry-run"), ("run",), ("run", "--force")])
@pytest.mark.parametrize(
    ("script", "options", "expected"),
    [("long.sh", (), "bytes; 5000 are allowed"), ("start.sh", ("--image", "windows-95"), 'no image "windows-95"')],
)
def test_launch_check_rejects_a_launch_before_anything_is_created(
    commands: MemoryCommands,
    tmp_path: Path,
    command: tuple[str, ...],
    script: str,
    options: tuple[str, ...],
    expected: str,
) -> None:
    before = sorted(tmp_path.rglob("*"))
    answer = call(commands, *command, *options, script=script)
    assert isinstance(answer.error, InputError)
    assert expected in str(answer.error)
    assert answer.out == ""
    assert sorted(tmp_path.rglob("*")) == before
    assert not commands.provider.instances.ours()


def test_launch_check_receives_the_request_of_a_run(commands: MemoryCommands) -> None:
    seen: list[LaunchRequest] = []
    commands = MemoryCommands(compute={"check_launch": lambda settings, request: seen.append(request)})
    assert call(commands, "plan", "--image", "ubuntu", "--max-lifetime", "3600").code == 0
    (request,) = seen
    assert "echo worker-of-this-job" in request.startup_script
    assert "CLOUD_TASKS_JOB_ID=" in request.startup_script
    assert request.image == "ubuntu"
    assert request.max_lifetime is not None


def test_launch_check_is_optional_for_plans_and_backends(commands: MemoryCommands) -> None:
    assert commands.call("plan", "--max-instances", "1").code == 0
    assert call(MemoryCommands(), "plan", script="long.sh").code == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("the startup script has 40000 bytes", where="run.startup_script"), 2),
        (LaunchFailedError("the region has no default VPC", hint="set aws.subnets"), 1),
    ],
)
def test_run_whose_launches_always_fail_exits_with_the_error(
    commands: MemoryCommands, error: CloudTasksError, code: int
) -> None:
    launches: list[str] = []

    class Failing(MemoryCompute):
        def launch(self, request: LaunchRequest) -> Instance:
            launches.append(request.client_token)
            raise error

    world = commands.provider.instances

    @contextmanager
    def open_compute(settings: Any, context: Any) -> Iterator[MemoryCompute]:
        yield Failing(world)

    commands = MemoryCommands(compute={"open": open_compute})
    answer = call(commands, "run", "--scaling-check-interval", "0.2")
    assert answer.code == code
    assert f"Error: job stopped: no instance could be launched in 3 attempts: {error}" in answer.err
    assert len(launches) == 3
