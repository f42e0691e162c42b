"""A job in miniature: a real store, a virtual loop, and fakes for what the controller calls."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from controller_fakes import FakeCompute, FakeQueue
from virtual_loop import VirtualLoop

from cloud_tasks.model import Task
from cloud_tasks.store import JobRecord, Store


@pytest.fixture
def loop() -> VirtualLoop:
    return VirtualLoop()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    record = JobRecord(job_id="job", queue_name="job", run_id="run", created_at=datetime(2026, 1, 1, tzinfo=UTC))
    with Store.create(tmp_path / "job.db", record, durable=False) as opened:
        opened.load_tasks(Task(task_id=f"task-{number}", data={"n": number}) for number in range(20))
        yield opened


@pytest.fixture
def queue(loop: VirtualLoop) -> FakeQueue:
    return FakeQueue(loop)


@pytest.fixture
def compute(loop: VirtualLoop) -> FakeCompute:
    return FakeCompute(loop)
