"""Events and progress that trigger a notification. Pure: no clock, no network.

Invariants, each with a test:

1. The failure rate triggers once when it reaches its threshold, and again only after it fell well below.
2. It does not trigger before enough tasks are finished; a task counts once, regardless of later events.
3. Each share of the budget triggers once, and not if it was reached before this run started.
4. The end of a run triggers once.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import timedelta

import attrs

from cloud_tasks.model import TASK_FINAL_EVENTS, Event, EventType, JobPhase, JobProgress, Money

__all__ = ["BudgetTrigger", "FailureRateTrigger", "Notification", "describe_end"]

_REARM_FAILURES = 0.75
"""Share of the threshold below which the failure rate must fall to trigger again."""
_REARM_COST = 0.9
"""Share of the limit below which the projected total must fall to trigger again."""
_MIN_TASKS, _MIN_SHARE = 20, 0.05
"""Finished tasks of this run, or share of all tasks, required for a projection; the smaller number counts."""
_MAX_REASON = 200
"""Maximum length of a reason in characters."""


@attrs.frozen(kw_only=True)
class Notification:
    """One message to send."""

    kind: str
    """``finish``, ``failure_rate``, ``budget`` or ``projection``."""
    message: str


class FailureRateTrigger:
    """Share of failed tasks among the latest finished ones.

    Args:
        threshold: Share that triggers; None to never trigger.
        window: Number of latest tasks for the share.
        sample: Number of finished tasks required.
    """

    def __init__(self, threshold: float | None, *, window: int, sample: int) -> None:
        self._threshold = threshold
        self._window = window
        self._sample = min(sample, window)
        self._failed: OrderedDict[str, bool] = OrderedDict()
        self._triggered = False
        self._count = 0

    @property
    def rate(self) -> float:
        """Current failure rate, between 0 and 1."""
        return self._count / len(self._failed) if self._failed else 0.0

    def update(self, event: Event) -> Notification | None:
        """Count an event; return the notification that it triggers."""
        if self._threshold is None or event.event_type not in TASK_FINAL_EVENTS or event.retry is True:
            return None
        if event.task_id is None or event.task_id in self._failed:
            return None
        self._failed[event.task_id] = event.event_type is not EventType.TASK_COMPLETED
        self._count += self._failed[event.task_id]
        if len(self._failed) > self._window:
            self._count -= self._failed.popitem(last=False)[1]
        finished = len(self._failed)
        if self._triggered:
            self._triggered = self.rate >= self._threshold * _REARM_FAILURES
        elif finished >= self._sample and self.rate >= self._threshold:
            self._triggered = True
            text = f"{self.rate:.0%} of the last {finished} tasks failed ({self._count} of {finished})"
            return Notification(kind="failure_rate", message=f"{text}; latest: {_reason(event)}")
        return None


def _reason(event: Event) -> str:
    details = event.details
    exception = " ".join(str(details.get("exception") or "").split())
    text = ": ".join(str(part) for part in (details.get("exception_type"), exception) if part)
    if not text and details.get("exit_code") is not None:
        text = f"exit code {details['exit_code']}"
    text = text or event.event_type.value.removeprefix("task_").replace("_", " ")
    return text if len(text) <= _MAX_REASON else f"{text[: _MAX_REASON - 1]}…"


class BudgetTrigger:
    """Cost of a job compared with its limit.

    Args:
        shares: Shares of the limit that trigger when spent.
        projected: Whether a projected total above the limit triggers.
    """

    def __init__(self, shares: tuple[float, ...], *, projected: bool) -> None:
        self._pending: list[float] | None = None
        self._shares = sorted(set(shares))
        self._projected = projected
        self._triggered = False
        self._finished_before = 0

    def update(self, progress: JobProgress) -> list[Notification]:
        """Return the notifications that this progress triggers."""
        limit = progress.max_total_cost
        if limit is None or not limit:
            return []
        if self._pending is None:
            self._finished_before = progress.finished
            self._pending = [share for share in self._shares if progress.cost.usd < (limit * share).usd]
            return []
        found = []
        reached = [share for share in self._pending if progress.cost.usd >= (limit * share).usd]
        if reached:
            self._pending = [share for share in self._pending if share not in reached]
            text = f"{max(reached):.0%} of the budget is spent: {progress.cost} of {limit}; {_finished(progress)}"
            found.append(Notification(kind="budget", message=text))
        if self._projected and progress.phase is JobPhase.RUNNING:
            found += self._project(progress, limit)
        return found

    def _project(self, progress: JobProgress, limit: Money) -> list[Notification]:
        expected = progress.expected_cost
        required = min(_MIN_TASKS, max(1, int(progress.total * _MIN_SHARE)))
        if expected is None or progress.finished - self._finished_before < required:
            return []
        if self._triggered:
            self._triggered = expected.usd >= (limit * _REARM_COST).usd
        elif expected.usd > limit.usd:
            self._triggered = True
            text = f"projected total {expected} exceeds max_total_cost {limit}; {_finished(progress)}"
            return [Notification(kind="projection", message=text)]
        return []


def _finished(progress: JobProgress) -> str:
    return f"{progress.finished:,} of {progress.total:,} tasks finished"


def describe_end(progress: JobProgress) -> Notification:
    """Return the notification of the end of a run."""
    failed = f" ({progress.failed:,} failed)" if progress.failed else ""
    elapsed = timedelta(seconds=round((progress.now - progress.started_at).total_seconds()))
    outcomes = {
        JobPhase.COMPLETE: "finished" if progress.failed else "complete",
        JobPhase.ABORTED: f"aborted ({progress.reason})" if progress.reason else "aborted",
        JobPhase.STOPPED: "stopped by the user",
        JobPhase.LEFT: "left by the user, instances still running",
    }
    outcome = outcomes.get(progress.phase, progress.phase.value)
    text = f"{outcome}: {_finished(progress)}{failed} in {elapsed}, total cost {progress.cost}"
    return Notification(kind="finish", message=text)
