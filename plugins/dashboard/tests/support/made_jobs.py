"""Job databases as written by a controller, created from events."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
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

__all__ = ["START", "at", "completed", "exited", "failed", "launch", "launched_instance", "lost", "make_job", "started"]

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

_numbers = itertools.count()


def at(seconds: float) -> datetime:
    """Return the time this number of seconds after `START`."""
    return START + timedelta(seconds=seconds)


def make_job(
    folder: Path,
    tasks: Sequence[str] = (),
    *,
    name: str = "job.db",
    job_id: str = "job",
    run_id: str = "run-1",
    events: Sequence[Event] = (),
    config: Mapping[str, Any] | None = None,
    created: float = 0.0,
) -> Path:
    """Create a database with these tasks, and apply these events."""
    job = JobRecord(
        job_id=job_id,
        queue_name=job_id,
        run_id=run_id,
        created_at=at(created),
        provider="local",
        task_source="tasks.json",
        config=config or {},
    )
    with Store.create(folder / name, job, durable=False) as store:
        store.load_tasks(Task(task_id=task_id, data={"of": task_id}) for task_id in tasks)
        store.mark_queued(tasks)
        store.apply_events(events)
    return folder / name


def _event(kind: EventType, task_id: str, when: float, attempt: int, host: str, **fields: Any) -> Event:
    return Event(
        event_id=f"event-{next(_numbers)}",
        event_type=kind,
        timestamp=at(when),
        hostname=host,
        instance_id=f"i-{host}",
        task_id=task_id,
        attempt=attempt,
        **fields,
    )


def started(task_id: str, when: float, attempt: int = 1, host: str = "h1") -> Event:
    return _event(EventType.TASK_STARTED, task_id, when, attempt, host)


def completed(
    task_id: str,
    when: float,
    attempt: int = 1,
    *,
    elapsed: float = 1.0,
    host: str = "h1",
    result: Any = "done",
    **more: Any,
) -> Event:
    details = {"result": result, **more}
    return _event(
        EventType.TASK_COMPLETED, task_id, when, attempt, host, retry=False, elapsed_time=elapsed, details=details
    )


def failed(
    task_id: str,
    when: float,
    attempt: int = 1,
    *,
    message: str = "bad",
    retry: bool = False,
    host: str = "h1",
    trace: str = "Traceback (most recent call last):\nValueError: bad",
    printed: str = "",
) -> Event:
    details = {"exception": message, "exception_type": "ValueError", "stack_trace": trace, "log_tail": printed}
    return _event(
        EventType.TASK_EXCEPTION, task_id, when, attempt, host, retry=retry, elapsed_time=0.5, details=details
    )


def exited(task_id: str, when: float, code: int, *, host: str = "h1") -> Event:
    details = {"exit_code": code}
    return _event(EventType.TASK_EXITED, task_id, when, 1, host, retry=False, elapsed_time=0.5, details=details)


def lost(task_id: str, when: float, *, host: str = "h1") -> Event:
    return _event(EventType.TASK_RELEASED, task_id, when, 1, host, details={"reason": "termination notice"})


def launch(
    store: Store,
    host: str,
    *,
    when: float = 0.0,
    price: str = "0.36",
    ended: float | None = None,
    slots: int = 2,
    state: InstanceState = InstanceState.RUNNING,
) -> None:
    """Record an instance on which the worker ``host`` runs."""
    instance_type = InstanceType(
        name="type-2", vcpus=2, memory_gb=8.0, architecture=Architecture.X86_64, zones=("zone-a",)
    )
    offer = Offer(
        instance_type=instance_type,
        zone="zone-a",
        provisioning_model=ProvisioningModel.SPOT,
        boot_disk=BootDisk(disk_type="ssd", size_gb=10.0),
        price=PriceBreakdown(cpu=Money(price)),
        priced_at=START,
    )
    request = LaunchRequest(client_token=f"t{host}", job_id="job", offer=offer, startup_script="", labels={})
    store.record_intents([request], at(when), slots=slots)
    store.record_launched(f"t{host}", launched_instance(host, when=when, state=state))
    if ended is not None:
        store.record_ended(f"i-{host}", at(ended), "it was idle")


def launched_instance(host: str, *, when: float = 0.0, state: InstanceState = InstanceState.RUNNING) -> Instance:
    """Return the instance on which the worker ``host`` runs, as a launch or a listing shows it."""
    return Instance(
        instance_id=f"i-{host}",
        job_id="job",
        state=state,
        instance_type="type-2",
        zone="zone-a",
        provisioning_model=ProvisioningModel.SPOT,
        created_at=at(when),
        client_token=f"t{host}",
    )
