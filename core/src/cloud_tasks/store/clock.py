"""The clock of a job, by which its controller measures silence, age and cost.

Invariants, each with a test:

1. It runs on while the machine is suspended, and setting the clock of the machine changes nothing.
2. While instances run, the controllers of a job that follow each other on one boot of a machine share one clock.
3. It does not run backwards, neither during a run nor from one to the next; what the job has recorded is in the past.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from cloud_tasks.store.db.times import from_unix_or_none
from cloud_tasks.store.records import InstanceRecord
from cloud_tasks.store.store import Store

__all__ = ["ClockRecords", "JobClock", "clock_ahead", "job_time"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def _read_ticks() -> float:
    """Return seconds of a clock that is never set, and that runs while the machine is suspended if there is one."""
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"):
        with contextlib.suppress(AttributeError, OSError):
            return time.clock_gettime(getattr(time, name))
    return time.monotonic()


def _read_boot() -> str:
    """Return the identity of this boot of the machine; empty where there is none."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


class ClockRecords(Protocol):
    """What a job has recorded of its clock; `Store` is one."""

    def instances(self) -> Sequence[InstanceRecord]:
        """Return all launches."""

    def clock(self, boot: str) -> tuple[float | None, float | None]:
        """Return the offset of the job's clock on this boot of the machine, and when a controller was last at work."""


class JobClock:
    """Clock that starts with the time of the machine, or continues that of earlier controllers.

    Args:
        ticks: Return the seconds since a moment that stays the same until the machine boots again.
        wall: Return the Unix time that the clock of the machine shows.
        boot: Return the identity of this boot; empty if it is unknown.
    """

    def __init__(
        self,
        *,
        ticks: Callable[[], float] = _read_ticks,
        wall: Callable[[], float] = time.time,
        boot: Callable[[], str] = _read_boot,
    ) -> None:
        self._ticks = ticks
        self._boot = boot()
        self._offset = wall() - ticks()

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.fromtimestamp(self._ticks() + self._offset, UTC)

    def follow(self, store: ClockRecords) -> None:
        """Continue the clock of a job while instances are charged by it, and after all that the job has recorded."""
        records, ticks = store.instances(), self._ticks()
        offset, last_alive = store.clock(self._boot)
        runs = any(record.ended_at is None for record in records)
        # What cannot be read as a time is unknown.
        if runs and offset is not None and from_unix_or_none(ticks + offset) is not None:
            self._offset = offset
        if last_alive is not None and from_unix_or_none(last_alive) is not None:
            self._offset = max(self._offset, last_alive - ticks)
        moments = (moment for each in records for moment in (each.intended_at, each.launched_at, each.ended_at))
        self._offset = max(self._offset, *(moment.timestamp() - ticks for moment in moments if moment), self._offset)

    def resume(self, store: Store) -> None:
        """Continue the clock of a job, and let the next controller continue it; before the loop has any timer."""
        self.follow(store)
        store.record_clock(self._boot, self._offset, self.now())


def clock_ahead(store: ClockRecords) -> timedelta:
    """Return how far the clock of a job is ahead of that of the machine, to the second."""
    clock = JobClock()
    clock.follow(store)
    return timedelta(seconds=round((clock.now() - datetime.now(UTC)).total_seconds()))


def job_time(store: ClockRecords) -> datetime:
    """Return the present time by the clock of a job."""
    clock = JobClock()
    clock.follow(store)
    return clock.now()
