"""Setup of a job: killed at any step, one intact job is left that can be resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from memory_commands import MemoryCommands

from cloud_tasks.convert import decode_task_message
from cloud_tasks.errors import StoreError
from cloud_tasks.model import TaskStatus
from cloud_tasks.plugin import ComputeContext, QueueContext
from cloud_tasks.store import JobState, Store

OLD, NEW = {"a": "OLD", "b": "OLD"}, {"a": "NEW", "c": "NEW"}
QUEUE_STEPS = ["new-1-events create", "new-1 create", "old-1 delete", "old-1-events delete"]
STEPS = {
    "load-queue": [*QUEUE_STEPS, "new-1 send"],
    "run": ["terminate", *QUEUE_STEPS],
}
"""Steps of each command: the database is published before the queues change."""
KILLS = [(command, after) for command, steps in STEPS.items() for after in range(len(steps) + 1)]


class Killed(BaseException):
    """Death of the process."""


class World(MemoryCommands):
    """Provider in memory that counts its calls, and kills the command before one of them."""

    def __init__(self) -> None:
        super().__init__(queue={"open": self._open_queue}, compute={"open": self._open_compute})
        self.kill_after: int | None = None
        self.journal: list[str] = []
        self.old_run = ""

    def note(self, step: str) -> None:
        if self.kill_after is not None and len(self.journal) >= self.kill_after:
            raise Killed
        self.journal.append(step)

    @contextmanager
    def _open_queue(self, settings: Any, context: QueueContext) -> Iterator[Any]:
        with self.provider.queue.open(settings, context) as queue:
            yield Noting(queue, self, f"{self._shown(context.name)} ", ("create", "delete", "purge", "send"))

    def _shown(self, name: str) -> str:
        """Return the name of a queue with the run in place of its id."""
        run_id, rest = name.removeprefix("job-").split("-", 1)
        return f"{'old' if run_id == self.old_run else 'new'}-{rest}"

    @contextmanager
    def _open_compute(self, settings: Any, context: ComputeContext) -> Iterator[Any]:
        with self.provider.compute.open(settings, context) as compute:
            yield Noting(compute, self, "", ("terminate", "launch"))

    def kill(self, *words: str, after: int) -> None:
        """Run a command that is killed after a number of steps."""
        self.journal, self.kill_after = [], after
        with pytest.raises(Killed):
            self.call(*words)
        self.kill_after = None

    def tasks_in_queue(self) -> list[tuple[str, Any]]:
        found = self.job_queue().receive(10, wait=timedelta(0))
        messages = [decode_task_message(delivery.body) for delivery in found]
        return sorted((message.task_id, message.data["x"]) for message in messages)


class Noting:
    """Backend proxy that records changes."""

    def __init__(self, inner: Any, world: World, prefix: str, noted: Sequence[str]) -> None:
        self._inner, self._world, self._prefix, self._noted = inner, world, prefix, noted

    def __getattr__(self, name: str) -> Any:
        if name in self._noted:
            self._world.note(f"{self._prefix}{name}")
        return getattr(self._inner, name)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A loaded job, and the task file of another with the same name."""
    monkeypatch.chdir(tmp_path)
    for name, tasks in (("old.json", OLD), ("new.json", NEW)):
        (tmp_path / name).write_text(json.dumps([{"id": key, "data": {"x": value}} for key, value in tasks.items()]))
    found = World()
    assert found.call("load-queue", "--job-id", "job", "--task-file", "old.json").error is None
    with Store.open(Path("job.db"), read_only=True) as store:
        found.old_run = store.job.run_id
    return found


def command_line(command: str, task_file: str = "new.json") -> list[str]:
    more = ["--command", "true"] if command == "run" else []
    return [command, "--job-id", "job", "--task-file", task_file, "--force", *more]


def tasks_in_database() -> list[tuple[str, Any]]:
    with Store.open(Path("job.db"), read_only=True) as store:
        statuses = set(TaskStatus)
        return sorted((task.task_id, task.data["x"]) for task in store.export_tasks(statuses))


@pytest.mark.parametrize(("command", "after"), KILLS)
def test_setup_killed_at_any_step_leaves_one_intact_job_that_resumes(world: World, command: str, after: int) -> None:
    if command == "run":
        world.launch("token")
    steps = STEPS[command]
    if after < len(steps):
        world.kill(*command_line(command), after=after)
        assert world.journal == steps[:after]
    elif command == "load-queue":
        assert world.call(*command_line(command)).error is None
    else:
        # The first launch follows the setup, in a thread, while tasks are sent.
        world.kill(*command_line(command), after=len(steps))
    resumed = world.call("load-queue", "--job-id", "job", "--continue")
    assert resumed.error is None
    # Of the earlier job, only the instances are terminated before its database is replaced.
    whole = OLD if command == "run" and after == 0 else NEW
    assert tasks_in_database() == sorted(whole.items())
    assert world.tasks_in_queue() == sorted(whole.items())
    assert world.job_queue("event").depth().visible == 0
    with Store.open(Path("job.db"), read_only=True) as store:
        assert set(world.provider.queues.messages) == {store.job.queue_name, store.job.event_queue_name}
        assert store.job.state is JobState.RUNNING
        assert store.counts()[TaskStatus.QUEUED] == 2


def test_setup_gives_the_new_job_no_event_of_the_earlier_one(world: World) -> None:
    earlier = world.job_queue("event")
    earlier.send([b"a report of the earlier job"])
    world.kill(*command_line("load-queue"), after=0)
    assert earlier.depth().visible == 1
    refused = world.call("monitor", "--job-id", "job")
    assert "-1-events" in str(refused.error)
    assert world.call("load-queue", "--job-id", "job", "--continue").error is None
    assert not earlier.exists()
    assert world.job_queue("event").depth().visible == 0


def test_setup_removes_nothing_while_another_process_uses_the_job(world: World) -> None:
    world.launch("token")
    for command in STEPS:
        world.journal = []
        with Store.open(Path("job.db")):
            assert isinstance(world.call(*command_line(command)).error, StoreError)
        assert world.journal == []


def test_setup_changes_nothing_for_invalid_input(world: World, tmp_path: Path) -> None:
    (tmp_path / "new.json").write_text('[{"id": "a", "data": {}}, {"id": "a", "data": {}}]')
    before = (tmp_path / "job.db").read_bytes()
    for command in STEPS:
        world.journal = []
        assert "a" in str(world.call(*command_line(command)).error)
        assert (world.journal, (tmp_path / "job.db").read_bytes()) == ([], before)
    assert list(tmp_path.glob(".cloud-tasks-load-*")) == []
