"""``run`` when its controller fails: the instances are terminated or left, and the error shows what is left."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import click
import pytest
from memory_commands import MemoryCommands

from cloud_tasks.cli.commands.job import run as run_command
from cloud_tasks.controller.event_loop import ThreadedLoop
from cloud_tasks.errors import CloudTasksError
from cloud_tasks.plugin import ComputeContext

RUN = ("--job-id", "job", "--task-file", "tasks.json", "--set", "run.startup_script=x", "--max-instances", "1")
LEFT = "1 instance of the job is still running at $"
OPTIONS = "--provider memory --set run.startup_script=x --job-id job --max-instances 1 --scaling-check-interval 0.1"
RESUME = f"resume the job with `cloud-tasks run --continue {OPTIONS}"
NONE_LEFT = f"no instance is left running; {RESUME}`"


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryCommands:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.json").write_text('[{"id": "a", "data": {}}, {"id": "b", "data": {}}]')
    return MemoryCommands()


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Raise an error in the callback for progress, once an instance exists."""

    def show(self: object, progress: object) -> None:
        if any(record.instance_id is not None for record in progress.instances):  # type: ignore[attr-defined]
            raise error

    monkeypatch.setattr(run_command._Display, "show", show)


def alive(commands: MemoryCommands) -> int:
    with commands.provider.compute.open(None, ComputeContext(job_id="job")) as compute:
        return len(compute.instances("job"))


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (TypeError("a defect"), "internal error: TypeError: a defect; please report it, with --debug"),
        (MemoryError(), "out of memory"),
        (OSError(24, "Too many open files"), "too many open files (limit: "),
        (RuntimeError("can't start new thread"), "cannot start another thread or process"),
        (CloudTasksError("it broke", hint="repair it"), "it broke; repair it"),
    ],
)
def test_error_of_the_controller_terminates_all_instances_by_default(
    commands: MemoryCommands, monkeypatch: pytest.MonkeyPatch, error: Exception, problem: str
) -> None:
    fail_with(monkeypatch, error)
    failed = commands.call("run", *RUN, "--scaling-check-interval", "0.1")
    assert str(failed.error).startswith(problem)
    assert str(failed.error).endswith(NONE_LEFT)
    assert alive(commands) == 0


def test_error_of_the_controller_leaves_the_instances_where_the_user_chose_so(
    commands: MemoryCommands, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, TypeError("a defect"))
    failed = commands.call("run", *RUN, "--scaling-check-interval", "0.1", "--on-error", "leave")
    assert LEFT in str(failed.error)
    options = OPTIONS.replace("--scaling", "--on-error leave --scaling")
    resume = f"resume the job with `cloud-tasks run --continue {options}`"
    assert str(failed.error).endswith(f"/hour: {resume}, or terminate with `cloud-tasks stop {options}`")
    assert alive(commands) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_exit_of_the_process_terminates_all_instances(
    commands: MemoryCommands, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    fail_with(monkeypatch, error)
    with contextlib.suppress(click.Abort, type(error)):
        commands.call("run", *RUN, "--scaling-check-interval", "0.1")
    assert alive(commands) == 0


def test_error_that_the_end_of_the_run_meets_again_terminates_all_instances(
    commands: MemoryCommands, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, TypeError("a defect"))

    def explode(self: object, *arguments: object) -> None:
        raise ValueError("another defect")

    monkeypatch.setattr("cloud_tasks.controller.autoscaler.fleet_termination.FleetTermination.run", explode)
    failed = commands.call("run", *RUN, "--scaling-check-interval", "0.1")
    assert "TypeError: a defect" in str(failed.error)
    assert str(failed.error).endswith(NONE_LEFT)
    assert alive(commands) == 0


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no thread of the controller start."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("controller-io"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_run_without_a_thread_fails_in_one_line_that_names_the_limit(
    commands: MemoryCommands, no_threads: None, tmp_path: Path
) -> None:
    failed = commands.call("run", *RUN)
    assert "raise the limits with `ulimit -u`, `ulimit -v`" in str(failed.error)
    assert not (tmp_path / "job.db").exists()
    assert alive(commands) == 0


def test_loop_makes_every_call_with_the_threads_that_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = ThreadedLoop(threads=4)
    start = threading.Thread.start
    monkeypatch.setattr(
        threading.Thread, "start", lambda thread: (_ for _ in ()).throw(RuntimeError("can't start new thread"))
    )
    done: list[int] = []
    for number in range(8):
        loop.call(lambda number=number: number, done.append, lambda error: None)  # type: ignore[misc]
    loop.run(lambda: len(done) == 8)
    monkeypatch.setattr(threading.Thread, "start", start)
    loop.close()
    assert sorted(done) == list(range(8))
