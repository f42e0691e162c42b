"""Jobs, events, launches and instances for tests of the store."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cloud_tasks.model import (
    Architecture,
    BootDisk,
    Event,
    EventType,
    Instance,
    InstanceState,
    InstanceType,
    LaunchRequest,
    Money,
    Offer,
    PriceBreakdown,
    ProvisioningModel,
    Task,
)
from cloud_tasks.store import JobRecord, Store

START = datetime(2025, 7, 8, 12, 0, tzinfo=UTC)
JOB = JobRecord(job_id="job", queue_name="job", run_id="run-1", created_at=START, config={"run": {"max_cpu": 4}})

_numbers = itertools.count()


def at(seconds: float) -> datetime:
    """Return the time so many seconds after `START`."""
    return START + timedelta(seconds=seconds)


def new_store(folder: Path, tasks: Sequence[str] = (), name: str = "job.db") -> Store:
    store = Store.create(folder / name, JOB, durable=False)
    store.load_tasks(Task(task_id=task_id, data={"of": task_id}) for task_id in tasks)
    return store


def event(kind: EventType, task_id: str | None = None, attempt: int | None = 1, **fields: Any) -> Event:
    """Return an event of host ``h1``, with a new id unless one is given."""
    values: dict[str, Any] = {
        "event_id": f"e{next(_numbers)}",
        "timestamp": START,
        "hostname": "h1",
        "instance_id": "i1",
        "task_id": task_id,
        "attempt": attempt if task_id is not None else None,
    }
    return Event(event_type=kind, **{**values, **fields})


def started(task_id: str, attempt: int = 1, **fields: Any) -> Event:
    return event(EventType.TASK_STARTED, task_id, attempt, **fields)


def completed(task_id: str, attempt: int = 1, *, retry: bool = False, elapsed: float = 1.0, **fields: Any) -> Event:
    return event(EventType.TASK_COMPLETED, task_id, attempt, retry=retry, elapsed_time=elapsed, **fields)


def failed(task_id: str, attempt: int = 1, *, retry: bool = False, message: str = "bad", **fields: Any) -> Event:
    details = {"exception": message, "exception_type": "ValueError"}
    return event(EventType.TASK_EXCEPTION, task_id, attempt, retry=retry, elapsed_time=2.0, details=details, **fields)


def launch_request(
    token: str, *, price: str = "0.10", vcpus: int = 4, provisioning_model: ProvisioningModel = ProvisioningModel.SPOT
) -> LaunchRequest:
    instance_type = InstanceType(
        name=f"type-{vcpus}", vcpus=vcpus, memory_gb=8.0, architecture=Architecture.X86_64, zones=("zone-a",)
    )
    offer = Offer(
        instance_type=instance_type,
        zone="zone-a",
        provisioning_model=provisioning_model,
        boot_disk=BootDisk(disk_type="ssd", size_gb=10.0),
        price=PriceBreakdown(cpu=Money(price)),
        priced_at=START,
    )
    return LaunchRequest(client_token=token, job_id="job", offer=offer, startup_script="", labels={})


def instance(
    instance_id: str,
    token: str = "",
    *,
    created: float = 0.0,
    state: InstanceState = InstanceState.RUNNING,
    vcpus: int = 4,
) -> Instance:
    return Instance(
        instance_id=instance_id,
        job_id="job",
        state=state,
        instance_type=f"type-{vcpus}",
        zone="zone-a",
        provisioning_model=ProvisioningModel.SPOT,
        created_at=at(created),
        client_token=token,
    )
