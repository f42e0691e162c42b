"""Triggers of notifications, and their texts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from cloud_tasks.model import Event, EventType, JobPhase, JobProgress, Money, TaskStatus
from cloud_tasks_notify.template import check_template, render
from cloud_tasks_notify.triggers import BudgetTrigger, FailureRateTrigger, Notification, describe_end

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def finished_event(number: int, *, failed: bool = False, retry: bool = False, **details: Any) -> Event:
    return Event(
        event_id=f"e{number}-{retry}",
        event_type=EventType.TASK_EXCEPTION if failed else EventType.TASK_COMPLETED,
        timestamp=BEGAN,
        task_id=f"task-{number}",
        retry=retry,
        details=details,
    )


def triggered(trigger: FailureRateTrigger, outcomes: str, *, first: int = 0) -> list[int]:
    """Return the outcomes (``x``: failed) that triggered."""
    return [
        number
        for number, outcome in enumerate(outcomes, first)
        if trigger.update(finished_event(number, failed=outcome == "x")) is not None
    ]


def progress_at(
    cost: object = 0, *, finished: int = 0, failed: int = 0, limit: object = 10, **facts: Any
) -> JobProgress:
    counts = {TaskStatus.COMPLETED: finished - failed, TaskStatus.FAILED: failed, TaskStatus.QUEUED: 1000 - finished}
    return JobProgress(
        job_id="sums",
        run_id="run",
        now=BEGAN + timedelta(minutes=12),
        created_at=BEGAN,
        started_at=BEGAN,
        counts=counts,
        cost=Money(str(cost)),
        max_total_cost=None if limit is None else Money(str(limit)),
        **facts,
    )


# Failures


def test_failure_rate_triggers_once_when_reached() -> None:
    trigger = FailureRateTrigger(0.5, window=10, sample=4)
    assert triggered(trigger, "..xxxxxxxxxx") == [3]


def test_failure_rate_triggers_again_only_after_falling_well_below() -> None:
    trigger = FailureRateTrigger(0.5, window=4, sample=4)
    assert triggered(trigger, "xx..") == [3]
    # A rate between 0.375 and 0.5 does not rearm the trigger.
    assert triggered(trigger, "xx..xx..", first=4) == []
    assert triggered(trigger, "....xx", first=12) == [17]


def test_failure_rate_needs_a_sample() -> None:
    trigger = FailureRateTrigger(0.5, window=100, sample=20)
    assert triggered(trigger, "x" * 19) == []
    assert triggered(trigger, "x", first=19) == [19]


def test_sample_is_limited_to_the_window() -> None:
    assert triggered(FailureRateTrigger(0.5, window=3, sample=20), "xxxx") == [2]


def test_task_counts_once_and_only_in_its_terminal_state() -> None:
    trigger = FailureRateTrigger(0.5, window=10, sample=2)
    assert trigger.update(finished_event(1, failed=True, retry=True)) is None
    for _ in range(5):
        assert trigger.update(finished_event(1, failed=True)) is None
    others = [
        attrs.evolve(finished_event(2), event_type=kind) for kind in (EventType.TASK_STARTED, EventType.TASK_RELEASED)
    ]
    assert [trigger.update(event) for event in others] == [None, None]
    assert trigger.rate == 1.0
    assert trigger.update(finished_event(2, failed=True)) is not None


def test_failure_rate_without_a_threshold_never_triggers() -> None:
    assert triggered(FailureRateTrigger(None, window=10, sample=1), "xxxxxx") == []


def test_failure_rate_message_has_count_and_latest_reason() -> None:
    trigger = FailureRateTrigger(0.5, window=10, sample=2)
    trigger.update(finished_event(1))
    notification = trigger.update(finished_event(2, failed=True, exception_type="ValueError", exception="bad\n input"))
    assert notification == Notification(
        kind="failure_rate", message="50% of the last 2 tasks failed (1 of 2); latest: ValueError: bad input"
    )


@pytest.mark.parametrize(
    ("details", "reason"),
    [({"exit_code": 3}, "exit code 3"), ({}, "exception"), ({"exception": "y" * 300}, "y" * 199 + "…")],
)
def test_reason_is_one_short_line(details: dict[str, Any], reason: str) -> None:
    notification = FailureRateTrigger(0.5, window=1, sample=1).update(finished_event(1, failed=True, **details))
    assert notification is not None
    assert notification.message.endswith(f"; latest: {reason}")


# Budget


def test_budget_shares_trigger_once_and_only_the_highest_reached() -> None:
    trigger = BudgetTrigger((0.8, 0.5, 1.0), projected=False)
    costs = [0, 4.99, 5, 6, 7.99, 10, 11]
    assert [
        [notification.message.partition(":")[0] for notification in trigger.update(progress_at(cost))] for cost in costs
    ] == [
        [],
        [],
        ["50% of the budget is spent"],
        [],
        [],
        ["100% of the budget is spent"],
        [],
    ]


def test_budget_share_reached_before_this_run_does_not_trigger() -> None:
    trigger = BudgetTrigger((0.5, 0.8), projected=False)
    assert [len(trigger.update(progress_at(cost))) for cost in (6, 7, 8)] == [0, 0, 1]


def test_budget_without_a_limit_never_triggers() -> None:
    trigger = BudgetTrigger((0.5,), projected=True)
    assert trigger.update(progress_at(100, limit=None)) == trigger.update(progress_at(100, limit=None)) == []


def test_projected_excess_triggers_once_and_again_after_it_was_gone() -> None:
    trigger = BudgetTrigger((), projected=True)
    course = [(0, None), (19, 50), (20, 50), (30, 60), (40, 9.5), (50, 12), (60, 8.9), (70, 10), (80, 10.1)]
    kinds = [
        [
            notification.kind
            for notification in trigger.update(
                progress_at(1, finished=finished, expected_cost=None if cost is None else Money(str(cost)))
            )
        ]
        for finished, cost in course
    ]
    assert kinds == [[], [], ["projection"], [], [], [], [], [], ["projection"]]


def test_projection_ignores_tasks_of_earlier_runs() -> None:
    trigger = BudgetTrigger((), projected=True)
    trigger.update(progress_at(1, finished=500))
    assert trigger.update(progress_at(1, finished=510, expected_cost=Money(50))) == []
    assert len(trigger.update(progress_at(1, finished=520, expected_cost=Money(50)))) == 1


def test_projection_does_not_trigger_at_the_end() -> None:
    trigger = BudgetTrigger((), projected=True)
    trigger.update(progress_at(1))
    assert trigger.update(progress_at(1, finished=500, expected_cost=Money(50), phase=JobPhase.STOPPED)) == []


# The end, and the text


@pytest.mark.parametrize(
    ("phase", "reason", "words"),
    [
        (JobPhase.COMPLETE, "", "finished"),
        (JobPhase.ABORTED, "no heartbeat", "aborted (no heartbeat)"),
        (JobPhase.STOPPED, "", "stopped by the user"),
        (JobPhase.LEFT, "", "left by the user, instances still running"),
    ],
)
def test_end_message_has_outcome_and_totals(phase: JobPhase, reason: str, words: str) -> None:
    notification = describe_end(progress_at("0.27", finished=1000, failed=10, phase=phase, reason=reason))
    facts = "1,000 of 1,000 tasks finished (10 failed) in 0:12:00, total cost $0.27"
    assert notification == Notification(kind="finish", message=f"{words}: {facts}")


def test_end_message_says_complete_only_if_every_task_completed() -> None:
    text = describe_end(progress_at("0.27", finished=1000, phase=JobPhase.COMPLETE)).message
    assert text.startswith("complete: 1,000 of 1,000 tasks finished in ")


def test_render_fills_every_placeholder_with_or_without_progress() -> None:
    names = "$message|$kind|$job_id|$phase|$reason|$total|$finished|$failed|$failure_rate|$cost|$expected_cost|"
    template = f"{names}$max_total_cost"
    check_template(template)
    notification = Notification(kind="finish", message="over")
    assert render(template, notification, job_id="sums", progress=None, failure_rate=0.25, escape=False) == (
        "Job sums: over|finish|sums||||||25%|||"
    )
    progress = progress_at(1, finished=7, failed=2, expected_cost=Money(3))
    assert render(template, notification, job_id="sums", progress=progress, failure_rate=0.25, escape=False) == (
        "Job sums: over|finish|sums|running||1000|7|2|25%|$1.00|$3.00|$10.00"
    )


def test_render_treats_values_neither_as_template_nor_as_markup() -> None:
    notification = Notification(kind="finish", message="$cost <!channel> & co")
    plain = render("<a> $message costs $$5", notification, job_id="", progress=None, failure_rate=0.0, escape=False)
    assert plain == "<a> $cost <!channel> & co costs $5"
    escaped = render("<a> $message", notification, job_id="", progress=None, failure_rate=0.0, escape=True)
    assert escaped == "<a> $cost &lt;!channel&gt; &amp; co"


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("$nobody", r"unknown placeholder \$nobody; the placeholders are \$message"),
        ("5 $", "\\$ without a placeholder name"),
    ],
)
def test_invalid_template_is_refused(template: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_template(template)
