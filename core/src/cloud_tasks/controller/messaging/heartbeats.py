"""Heartbeats of this run by the controller's own clock: when events arrived, whatever the clocks of their senders show.

Invariants, each with a test:

1. Silence, idleness and progress are measured from the arrival of events; no other clock decides about an instance.
2. An event that is delivered again is not a new heartbeat.
3. A clock that differs by 30 seconds or more is reported once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import structlog

from cloud_tasks.escape import terminal_line
from cloud_tasks.model import TASK_FINAL_EVENTS, Event, EventType
from cloud_tasks.quantities import format_span
from cloud_tasks.store import InstanceRecord

__all__ = ["ClockSkew", "Heartbeats"]

log = structlog.get_logger()

_REMEMBERED = 50_000
"""Ids of events by which a repeated delivery is recognized."""
_REPORTED_SKEW = timedelta(seconds=30)
_SAMPLES = 3
"""Batches of events of an instance, the fastest of which shows its clock."""
_BUSY = frozenset({EventType.TASK_STARTED, EventType.TASK_RELEASED, *TASK_FINAL_EVENTS})


class Heartbeats:
    """When the events of this run arrived.

    Args:
        started: Start of the run: heartbeats of earlier runs count from here.
    """

    def __init__(self, started: datetime) -> None:
        self._started = started
        self._seen: dict[str, None] = {}
        self._last: dict[str, datetime] = {}
        """Arrival of the last event, by instance."""
        self._busy: dict[str, datetime] = {}
        """Arrival of the last event that shows the instance with a task."""
        self._skew = ClockSkew()
        self.progress_at: datetime | None = None
        """Arrival of the last event by which a task finished; None before the first of this run."""

    def note(self, events: Sequence[Event], arrived: datetime, *, is_current: bool) -> None:
        """Note events that have arrived.

        Args:
            is_current: Whether the event queue has no backlog, so that the delay of events shows the clocks.
        """
        delays: dict[str, timedelta] = {}
        for event in events:
            if event.event_id in self._seen:
                continue
            self._seen[event.event_id] = None
            name = event.instance_id
            if event.event_type in TASK_FINAL_EVENTS and not event.retry:
                self.progress_at = arrived
            if not name:
                continue
            self._last[name] = arrived
            if event.event_type in _BUSY or event.details.get("running_tasks"):
                self._busy[name] = arrived
            delay = arrived - event.timestamp
            delays[name] = min(delay, delays.get(name, delay))
        while len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        if is_current:
            self._skew.note(delays)

    def last_heartbeat(self, record: InstanceRecord) -> datetime | None:
        """Return the arrival of the last event of an instance; None if it never sent one."""
        return self._arrival(record.instance_id, self._last, record.last_heartbeat)

    def last_busy(self, record: InstanceRecord) -> datetime | None:
        """Return the arrival of the last event that shows an instance with a task; None without one."""
        return self._arrival(record.instance_id, self._busy, record.last_busy)

    def _arrival(
        self, instance_id: str | None, times: dict[str, datetime], recorded: datetime | None
    ) -> datetime | None:
        known = times.get(instance_id or "")
        return self._started if known is None and recorded is not None else known


class ClockSkew:
    """Differences between the clocks of the instances and this machine's, reported once for each."""

    def __init__(self) -> None:
        self._delays: dict[str, deque[timedelta]] = {}
        self._reported: set[str] = set()

    def note(self, delays: dict[str, timedelta]) -> None:
        """Note the smallest delay of each instance in a batch: arrival by this clock minus time by the instance's."""
        for name, delay in delays.items():
            self._delays.setdefault(name, deque(maxlen=_SAMPLES)).append(delay)
        skews = self.skews()
        if not skews:
            return
        # That of most instances; if all agree, this machine's clock is the one that differs.
        common = sorted(skews.values(), key=abs)[(len(skews) - 1) // 2] if len(skews) > 1 else timedelta(0)
        if abs(common) >= _REPORTED_SKEW:
            self._report("", f"The clocks of the instances differ from that of this machine: they are {_text(common)}")
        else:
            common = timedelta(0)
        for name in skews.keys() & delays.keys():
            if abs(skews[name] - common) >= _REPORTED_SKEW:
                clock = f"The clock of instance '{terminal_line(name)}'"
                self._report(name, f"{clock} differs from that of this machine: it is {_text(skews[name])}")

    def skews(self) -> dict[str, timedelta]:
        """Return by how much the clock of each instance is behind this machine's (negative: ahead).

        Delays cannot be negative: the smallest of several batches is close to the difference of the clocks.
        """
        return {name: min(found) for name, found in self._delays.items() if _is_conclusive(found)}

    def _report(self, name: str, text: str) -> None:
        if name not in self._reported:
            self._reported.add(name)
            log.warning(
                f"{text}; heartbeats and costs are measured by this machine's clock, times of tasks are those of the "
                "instances"
            )


def _is_conclusive(delays: Collection[timedelta]) -> bool:
    return len(delays) == _SAMPLES or min(delays) <= -_REPORTED_SKEW


def _text(skew: timedelta) -> str:
    return f"{format_span(abs(skew))} {'behind' if skew > timedelta(0) else 'ahead of'} it"
