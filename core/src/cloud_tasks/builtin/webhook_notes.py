"""What a webhook has to say, and when. Pure: no clock, no network.

Invariants, each with a test:

1. The failure rate is told once when it reaches its threshold, and again only after it had fallen well below.
2. It is not told before enough tasks have ended; a task counts once, whatever is said of it later.
3. Each share of the budget is told once, and never one that was reached before this run began.
4. The end of a run is told once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from string import Template

import attrs

from cloud_tasks.model import TASK_FINAL_EVENTS, Event, EventType, JobPhase, JobProgress, Money

__all__ = ["NAMES", "BudgetWatch", "FailureWatch", "Note", "check_template", "describe_end", "escape_markup", "fill_in"]

_REARM_FAILURES = 0.75
"""The share of its threshold below which the failure rate has to fall before it is told again."""
_REARM_COST = 0.9
"""The share of the limit below which the expected cost has to fall before it is told again."""
_LEAST_TASKS, _LEAST_SHARE = 20, 0.05
"""What is expected is worth telling after so many tasks of this run, or so great a share of all, whichever is less."""


@attrs.frozen(kw_only=True)
class Note:
    """One message."""

    kind: str
    """``finish``, ``failure_rate``, ``budget`` or ``projection``."""
    message: str


class FailureWatch:
    """The share of failed tasks among the latest.

    Args:
        threshold: From which on it is told; None: never.
        window: How many tasks it is taken from.
        sample: How many have to have ended.
    """

    def __init__(self, threshold: float | None, *, window: int, sample: int) -> None:
        self._threshold = threshold
        self._window = window
        self._sample = min(sample, window)
        self._failed: OrderedDict[str, bool] = OrderedDict()
        self._is_told = False
        self._count = 0

    @property
    def rate(self) -> float:
        """Between 0 and 1."""
        return self._count / len(self._failed) if self._failed else 0.0

    def take(self, event: Event) -> Note | None:
        """Take note of an event; returns what is to be told."""
        if self._threshold is None or event.event_type not in TASK_FINAL_EVENTS or event.retry is True:
            return None
        if event.task_id is None or event.task_id in self._failed:
            return None
        self._failed[event.task_id] = event.event_type is not EventType.TASK_COMPLETED
        self._count += self._failed[event.task_id]
        if len(self._failed) > self._window:
            self._count -= self._failed.popitem(last=False)[1]
        if self._is_told:
            self._is_told = self.rate >= self._threshold * _REARM_FAILURES
        elif len(self._failed) >= self._sample and self.rate >= self._threshold:
            self._is_told = True
            ended = len(self._failed)
            reason = _reason(event)
            text = f"{self.rate:.0%} of the last {ended} tasks failed ({self._count} of {ended})"
            return Note(kind="failure_rate", message=f"{text}{f'; the latest: {reason}' if reason else ''}")
        return None


def _reason(event: Event) -> str:
    details = event.details
    words = " ".join(str(details.get("exception") or "").split())
    kind = details.get("exception_type")
    text = f"{kind}: {words}" if kind and words else str(kind or words or "")
    if not text and details.get("exit_code") is not None:
        text = f"exit code {details['exit_code']}"
    text = text or event.event_type.value.removeprefix("task_").replace("_", " ")
    return text if len(text) <= 200 else f"{text[:199]}…"


class BudgetWatch:
    """The cost of a job against its limit.

    Args:
        shares: Of the limit, at which it is told.
        projected: Whether to tell when the job is expected to exceed it.
    """

    def __init__(self, shares: tuple[float, ...], *, projected: bool) -> None:
        self._left: list[float] | None = None
        self._shares = sorted(set(shares))
        self._projected = projected
        self._is_expected = False
        self._finished_before = 0

    def take(self, progress: JobProgress) -> list[Note]:
        """Take note of how the job stands; returns what is to be told."""
        limit = progress.max_total_cost
        if limit is None or not limit:
            return []
        if self._left is None:
            self._finished_before = progress.finished
            self._left = [share for share in self._shares if progress.cost.usd < (limit * share).usd]
            return []
        notes = []
        reached = [share for share in self._left if progress.cost.usd >= (limit * share).usd]
        if reached:
            self._left = [share for share in self._left if share not in reached]
            text = f"{max(reached):.0%} of the budget is spent: {progress.cost} of {limit}; {_course(progress)}"
            notes.append(Note(kind="budget", message=text))
        if self._projected and progress.phase is JobPhase.RUNNING:
            notes += self._expect(progress, limit)
        return notes

    def _expect(self, progress: JobProgress, limit: Money) -> list[Note]:
        expected = progress.expected_cost
        enough = min(_LEAST_TASKS, max(1, int(progress.total * _LEAST_SHARE)))
        if expected is None or progress.finished - self._finished_before < enough:
            return []
        if self._is_expected:
            self._is_expected = expected.usd >= (limit * _REARM_COST).usd
        elif expected.usd > limit.usd:
            self._is_expected = True
            text = f"the job is expected to cost {expected}, more than its limit of {limit}; {_course(progress)}"
            return [Note(kind="projection", message=text)]
        return []


def _course(progress: JobProgress) -> str:
    return f"{progress.finished:,} of {progress.total:,} tasks have ended"


def describe_end(progress: JobProgress) -> Note:
    """What is said when a run has ended."""
    failed = f", {progress.failed:,} of them failed" if progress.failed else ""
    span = timedelta(seconds=round((progress.now - progress.started_at).total_seconds()))
    facts = f"{_course(progress)}{failed}; it took {span} and cost {progress.cost}"
    words = {
        JobPhase.COMPLETE: "is complete",
        JobPhase.ABORTED: f"was given up ({progress.reason})" if progress.reason else "was given up",
        JobPhase.STOPPED: "was stopped by its user",
        JobPhase.LEFT: "was left by its user, its instances running",
    }
    return Note(kind="finish", message=f"it {words.get(progress.phase, progress.phase.value)}: {facts}")


NAMES = (
    "message",
    "kind",
    "job_id",
    "phase",
    "reason",
    "total",
    "finished",
    "failed",
    "failure_rate",
    "cost",
    "expected_cost",
    "max_total_cost",
)
"""What a template may name."""


def check_template(text: str) -> None:
    """Raises `ValueError` where a template names what there is not."""
    template = Template(text)
    if not template.is_valid():
        raise ValueError("holds a $ that begins no name; write $$ for the sign itself")
    unknown = [name for name in template.get_identifiers() if name not in NAMES]
    if unknown:
        raise ValueError(f"there is no ${unknown[0]}; it may name {', '.join(f'${name}' for name in NAMES)}")


def fill_in(
    template: str,
    note: Note,
    *,
    job_id: str,
    progress: JobProgress | None,
    rate: float,
    escape: Callable[[str], str] = str,
) -> str:
    """The text that is sent.

    Args:
        escape: Applied to what is filled in; the template itself is the user's.
    """
    values: dict[str, object] = dict.fromkeys(NAMES, "")
    values |= {
        "message": f"Job {job_id}: {note.message}" if job_id else note.message,
        "kind": note.kind,
        "job_id": job_id,
        "failure_rate": f"{rate:.0%}",
    }
    if progress is not None:
        values |= {
            "phase": progress.phase.value,
            "reason": progress.reason,
            "total": progress.total,
            "finished": progress.finished,
            "failed": progress.failed,
            "cost": progress.cost,
            "expected_cost": "" if progress.expected_cost is None else progress.expected_cost,
            "max_total_cost": "" if progress.max_total_cost is None else progress.max_total_cost,
        }
    return Template(template).substitute({name: escape(str(value)) for name, value in values.items()})


def escape_markup(text: str) -> str:
    """Text in which nothing of a job (a reason, a message of an exception) can call people or make a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
