"""Task files by status, which can be loaded again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from cloud_tasks.builtin import open_task_source
from cloud_tasks.model import Event, EventType, Task
from cloud_tasks.report import dump_tasks
from cloud_tasks.store import JobRecord, Store


def test_dump_tasks_writes_a_task_file_for_each_status(tmp_path: Path) -> None:
    record = JobRecord(job_id="job", queue_name="job", run_id="r", created_at=datetime(2026, 1, 1, tzinfo=UTC))
    with Store.create(tmp_path / "job.db", record) as store:
        store.load_tasks(Task(task_id=f"t{n}", data={"text": "é", "n": n}) for n in range(5))
        store.apply_events(
            [
                Event(
                    event_id=f"e{n}",
                    event_type=EventType.TASK_COMPLETED,
                    timestamp=datetime(2026, 1, 1, tzinfo=UTC),
                    task_id=f"t{n}",
                    attempt=1,
                    retry=False,
                    elapsed_time=1.0,
                )
                for n in (1, 3)
            ]
        )
        files = dump_tasks(store, tmp_path)
    assert sorted(file.name for file in files) == ["job_completed.json", "job_pending.json"]
    with open_task_source(None, tmp_path / "job_pending.json") as source:
        assert [(task.task_id, task.data["n"]) for task in source] == [("t0", 0), ("t2", 2), ("t4", 4)]
    assert [task["task_id"] for task in json.loads((tmp_path / "job_completed.json").read_text())] == ["t1", "t3"]
