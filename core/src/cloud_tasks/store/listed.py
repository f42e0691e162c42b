"""What a listing shows about a recorded instance: its state, and when it started and ended. Pure.

The clock of the provider may differ from the job's. Its times are therefore counted from the creation of the instance,
by its clock, and the creation is the launch, by the job's clock.

Invariants, each with a test:

1. A time that the provider names is not before the launch, nor before the instance was last pending, nor after the
   listing that shows it.
2. Without such a time, a pending instance is booked from the last listing in which it was pending, and its start-up
   time and lifetime count from the first listing in which it was not.
3. The start is settled once. An instance that has run, or sent an event, is never pending again.
4. An instance whose start and end the provider names is booked for their difference: it may have been created long
   after its launch was called, if the answer took long.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs

from cloud_tasks.escape import without_credentials
from cloud_tasks.model import Instance, InstanceState
from cloud_tasks.sanitize import clean_text
from cloud_tasks.store.records import InstanceRecord

__all__ = ["named_end", "observed"]

_REASON_LENGTH = 200


def observed(record: InstanceRecord, instance: Instance, at: datetime | None) -> InstanceRecord:
    """Return the record of a living instance after a listing; the same if it shows nothing new.

    Args:
        at: Time of the listing; None: unknown.
    """
    if instance.state is InstanceState.PENDING and not _has_started(record):
        until = max(at or _since(record), _since(record))
        reason = clean_text(without_credentials(str(instance.reason or "")), _REASON_LENGTH)
        return attrs.evolve(record, state=instance.state, pending_until=until, reason=reason)
    found = _with_start(record, instance, at)
    if instance.state is not InstanceState.TERMINATED:
        # A started instance that is listed as pending is about to run again.
        state = InstanceState.STARTING if instance.state is InstanceState.PENDING else instance.state
        if state is not record.state:
            found = attrs.evolve(found, state=state)
    return found


def named_end(record: InstanceRecord, instance: Instance) -> datetime | None:
    """Return the end that the provider names, by the clock of the job; None without a usable one."""
    if record.started_at is not None and instance.started_at is not None:
        return _at_distance(record.started_at, instance.started_at, instance.ended_at)
    return _by_job_clock(record, instance, instance.ended_at)


def _by_job_clock(record: InstanceRecord, instance: Instance, moment: datetime | None) -> datetime | None:
    return _at_distance(record.launched_at or record.intended_at, instance.created_at, moment)


def _at_distance(ours: datetime, theirs: datetime, moment: datetime | None) -> datetime | None:
    """Return a time of another clock by that of ``ours``, which is the same time as ``theirs`` by the other."""
    if moment is None:
        return None
    try:
        return ours + (moment - theirs)
    except (TypeError, OverflowError):
        return None


def _has_started(record: InstanceRecord) -> bool:
    running = (InstanceState.RUNNING, InstanceState.STOPPING, InstanceState.STOPPED)
    return record.last_heartbeat is not None or record.started_at is not None or record.state in running


def _since(record: InstanceRecord) -> datetime:
    return record.pending_until or record.launched_at or record.intended_at


def _with_start(record: InstanceRecord, instance: Instance, at: datetime | None) -> InstanceRecord:
    """Settle the start of an instance that was pending, or whose start the provider names."""
    named = None if instance.state is InstanceState.PENDING else _by_job_clock(record, instance, instance.started_at)
    if record.started_at is not None or (record.pending_until is None and named is None):
        return record
    if named is None and instance.state is InstanceState.TERMINATED:
        # Whether it ever started is decided with its end.
        return record
    earliest = _since(record)
    latest = max(at or earliest, earliest)
    started = latest if named is None else min(max(named, earliest), latest)
    return attrs.evolve(
        record,
        pending_until=earliest if named is None else started,
        started_at=started,
        reason="",
        deadline=_later(record.deadline, started - record.intended_at),
        ends_by=_later(record.ends_by, latest - record.intended_at),
    )


def _later(moment: datetime | None, span: timedelta) -> datetime | None:
    return None if moment is None else moment + max(span, timedelta(0))
