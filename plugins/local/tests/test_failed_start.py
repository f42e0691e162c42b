"""The report of an instance that cannot start: a process of its own, with the variables of a worker."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from cloud_tasks.convert import decode_events
from cloud_tasks.model import EventType
from cloud_tasks.plugin import QueueContext
from cloud_tasks.registry import Registry


def failed_start(step: str, reason: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cloud_tasks.worker.failed_start", step, reason]
    variables = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_failed_start_is_an_event_of_its_instance(tmp_path: Path) -> None:
    backend = Registry(only={"local"}).queue("local")
    settings = backend.settings(state_dir=tmp_path)
    context = QueueContext(
        job_id="craters", name="craters-r1-1-events", lease=timedelta(seconds=30), exactly_once=False, for_events=True
    )
    with backend.open(settings, context) as queue:
        queue.create()
        done = failed_start(
            "requirements",
            "no foo==9",
            CLOUD_TASKS_PROVIDER="LOCAL",
            CLOUD_TASKS_QUEUE="local",
            CLOUD_TASKS_COMPUTE="local",
            CLOUD_TASKS_JOB_ID="craters",
            CLOUD_TASKS_RUN_ID="r1",
            CLOUD_TASKS_QUEUE_NAME="craters-r1-1",
            CLOUD_TASKS_INSTANCE_ID="local-1",
            CLOUD_TASKS_LOCAL_STATE_DIR=str(tmp_path),
        )
        assert done.returncode == 0, done.stderr
        (delivery,) = queue.receive(max_messages=10, wait=timedelta(0))
        ((event,), _) = decode_events(delivery.body)
    assert event.event_type is EventType.FATAL_EXCEPTION
    assert event.instance_id == "local-1"
    assert event.details["exception"] == "requirements: no foo==9"
    assert event.details["start_step"] == "requirements"


def test_failed_start_that_cannot_be_reported_is_said() -> None:
    done = failed_start("setup", "no disk")
    assert done.returncode == 1
    assert done.stderr.startswith("the reason could not be reported as an event: InputError: no task source given")
