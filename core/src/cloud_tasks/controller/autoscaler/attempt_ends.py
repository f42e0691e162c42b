"""The latest ends of attempts on each instance, from the events of this run.

Invariants, each with a test:

1. An event that is delivered twice counts once.
2. The memory of an instance is bounded, however many attempts end on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from cloud_tasks.controller.autoscaler.state import InstanceEnds
from cloud_tasks.model import Event, EventType

__all__ = ["FAILURES", "AttemptEnds"]

_REMEMBERED = 50
"""Ends of one instance that are remembered, the latest ones."""
_REASON_LENGTH = 200
FAILURES = frozenset({EventType.TASK_EXCEPTION, EventType.TASK_EXITED, EventType.TASK_TIMED_OUT})
"""Types of events that end an attempt without success."""
_COUNTED = FAILURES | {EventType.TASK_COMPLETED, EventType.TASK_RELEASED}


class _End(NamedTuple):
    at: datetime
    failure: str | None
    """Reason; None for an attempt that returned."""


class AttemptEnds:
    """Counts how attempts end on each instance."""

    def __init__(self) -> None:
        self._by_instance: dict[str, dict[str, _End]] = {}
        """Ends by the id of their event, by instance."""
        self._counted: dict[str, InstanceEnds] = {}

    def add(self, events: Sequence[Event], arrived: datetime) -> bool:
        """Add the ends among events that arrived at this time; return whether there are failures."""
        has_failures = False
        for event in events:
            if event.event_type not in _COUNTED or not event.instance_id:
                continue
            failure = _failure(event)
            # A release for another reason says nothing about the instance.
            if failure is None and event.event_type is EventType.TASK_RELEASED:
                continue
            has_failures |= failure is not None
            ends = self._by_instance.setdefault(event.instance_id, {})
            ends.setdefault(event.event_id, _End(arrived, failure))
            if len(ends) > _REMEMBERED:
                del ends[next(iter(ends))]
            self._counted.pop(event.instance_id, None)
        return has_failures

    def counts(self) -> Mapping[str, InstanceEnds]:
        """Return the ends of each instance."""
        for instance_id, ends in self._by_instance.items():
            if instance_id not in self._counted:
                self._counted[instance_id] = _count(list(ends.values()))
        return dict(self._counted)


def _count(ends: Sequence[_End]) -> InstanceEnds:
    reasons = Counter(end.failure for end in ends if end.failure is not None)
    return InstanceEnds(
        ends=len(ends),
        failures=reasons.total(),
        reason=reasons.most_common(1)[0][0] if reasons else "",
        last_end=max(end.at for end in ends),
    )


def _failure(event: Event) -> str | None:
    """Return why an attempt failed; None if it returned, or if that is no failure."""
    details = event.details
    if event.event_type is EventType.TASK_EXCEPTION:
        text = f"{details.get('exception_type') or 'exception'}: {details.get('exception') or ''}"
    elif event.event_type is EventType.TASK_EXITED:
        text = f"signal {details['signal']}" if details.get("signal") else f"exit code {details.get('exit_code')}"
    elif event.event_type is EventType.TASK_TIMED_OUT:
        text = str(details.get("cause") or "timed out")
    elif event.event_type is EventType.TASK_RELEASED and details.get("own_failure"):
        text = str(details.get("cause") or "failure of the worker")
    else:
        return None
    return (text.splitlines() or [""])[0][:_REASON_LENGTH]
