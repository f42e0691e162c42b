"""The first steps of a run: killed between any two of them, there is a job that can be gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from virtual_loop import START

from cloud_tasks.controller.beginning import go_on, start_afresh
from cloud_tasks.errors import StoreError
from cloud_tasks.model import Task, TaskStatus
from cloud_tasks.store import JobRecord, Store


class Killed(BaseException):
    """Here the process ends."""


class Things:
    """Queues and machines that note what is done to them, and may kill the run at one of these steps."""

    def __init__(self, name: str, journal: list[str], kill_at: int) -> None:
        self._name = name
        self._journal = journal
        self._kill_at = kill_at
        self.there = True

    def _note(self, what: str) -> None:
        if len(self._journal) == self._kill_at:
            raise Killed
        self._journal.append(f"{self._name}.{what}")

    def instances(self, job_id: str) -> list[Any]:
        return []

    def delete(self) -> None:
        self._note("delete")
        self.there = False

    def create(self) -> None:
        self._note("create")
        self.there = True

    def exists(self) -> bool:
        return self.there


def record(run_id: str) -> JobRecord:
    return JobRecord(job_id="job", queue_name="job", run_id=run_id, created_at=START)


def loaded(path: Path, run_id: str, count: int) -> Store:
    store = Store.create(path, record(run_id), overwrite=True, durable=False)
    store.load_tasks(Task(task_id=f"task-{number}", data={}) for number in range(count))
    return store


@pytest.mark.parametrize("kill_at", range(5))
def test_killed_at_any_step_either_job_is_whole_and_is_sent_whole(kill_at: int, tmp_path: Path) -> None:
    path = tmp_path / "job.db"
    with loaded(path, "earlier", 3) as earlier:
        earlier.mark_queued(["task-0", "task-1", "task-2"])
    journal: list[str] = []
    tasks, events, compute = (Things(name, journal, kill_at) for name in ("tasks", "events", "compute"))

    def begin(store: Store) -> None:
        start_afresh(store, path, job_id="job", compute=compute, tasks=tasks, events=events)  # type: ignore[arg-type]

    with loaded(tmp_path / "new.db", "new", 5) as store:
        if kill_at < 4:
            with pytest.raises(Killed):
                begin(store)
        else:
            begin(store)
    assert journal[:4] == ["tasks.delete", "events.delete", "events.create", "tasks.create"][:kill_at]
    alive = Things("tasks", [], 99)
    alive.there = tasks.there
    with Store.open(path, durable=False) as store:
        go_on(store, tasks=alive, events=Things("events", [], 99))  # type: ignore[arg-type]
        assert alive.there
        assert store.job.run_id == ("new" if kill_at >= 2 else "earlier")
        untouched = kill_at == 0  # the earlier job's queue still holds its messages
        assert (store.counts()[TaskStatus.PENDING] == 0) is untouched


def test_nothing_is_removed_while_another_controller_works_on_the_job(tmp_path: Path) -> None:
    journal: list[str] = []
    things = [Things(name, journal, 99) for name in ("tasks", "events", "compute")]
    tasks, events, compute = things
    with loaded(tmp_path / "job.db", "at work", 3), loaded(tmp_path / "new.db", "new", 5) as store:
        with pytest.raises(StoreError):
            start_afresh(store, tmp_path / "job.db", job_id="job", compute=compute, tasks=tasks, events=events)  # type: ignore[arg-type]
        assert journal == []
