"""What a webhook has to say, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from cloud_tasks.builtin.webhook_notes import (
    BudgetWatch,
    FailureWatch,
    Note,
    check_template,
    describe_end,
    escape_markup,
    fill_in,
)
from cloud_tasks.model import Event, EventType, JobPhase, JobProgress, Money, TaskStatus

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def ended(number: int, *, failed: bool = False, retry: bool = False, **details: Any) -> Event:
    return Event(
        event_id=f"e{number}-{retry}",
        event_type=EventType.TASK_EXCEPTION if failed else EventType.TASK_COMPLETED,
        timestamp=BEGAN,
        task_id=f"task-{number}",
        retry=retry,
        details=details,
    )


def told(watch: FailureWatch, outcomes: str, *, first: int = 0) -> list[int]:
    """After which of the outcomes (``x``: failed) something was told."""
    return [
        number
        for number, outcome in enumerate(outcomes, first)
        if watch.take(ended(number, failed=outcome == "x")) is not None
    ]


def standing(cost: object = 0, *, finished: int = 0, failed: int = 0, limit: object = 10, **facts: Any) -> JobProgress:
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


def test_a_failure_rate_is_told_once_when_it_is_reached() -> None:
    watch = FailureWatch(0.5, window=10, sample=4)
    assert told(watch, "..xxxxxxxxxx") == [3]


def test_it_is_told_again_only_after_it_fell_well_below() -> None:
    watch = FailureWatch(0.5, window=4, sample=4)
    assert told(watch, "xx..") == [3]
    # Between 0.375 and 0.5 it is still the same trouble.
    assert told(watch, "xx..xx..", first=4) == []
    assert told(watch, "....xx", first=12) == [17]


def test_few_tasks_say_nothing() -> None:
    watch = FailureWatch(0.5, window=100, sample=20)
    assert told(watch, "x" * 19) == []
    assert told(watch, "x", first=19) == [19]


def test_a_sample_beyond_the_window_is_the_window() -> None:
    assert told(FailureWatch(0.5, window=3, sample=20), "xxxx") == [2]


def test_a_task_counts_once_and_only_when_it_has_ended_for_good() -> None:
    watch = FailureWatch(0.5, window=10, sample=2)
    assert watch.take(ended(1, failed=True, retry=True)) is None
    for _ in range(5):
        assert watch.take(ended(1, failed=True)) is None
    others = [attrs.evolve(ended(2), event_type=kind) for kind in (EventType.TASK_STARTED, EventType.TASK_RELEASED)]
    assert [watch.take(event) for event in others] == [None, None]
    assert watch.rate == 1.0
    assert watch.take(ended(2, failed=True)) is not None


def test_no_threshold_tells_nothing() -> None:
    assert told(FailureWatch(None, window=10, sample=1), "xxxxxx") == []


def test_it_says_how_many_and_why() -> None:
    watch = FailureWatch(0.5, window=10, sample=2)
    watch.take(ended(1))
    note = watch.take(ended(2, failed=True, exception_type="ValueError", exception="bad\n input"))
    assert note == Note(
        kind="failure_rate", message="50% of the last 2 tasks failed (1 of 2); the latest: ValueError: bad input"
    )


@pytest.mark.parametrize(
    ("details", "reason"),
    [({"exit_code": 3}, "exit code 3"), ({}, "exception"), ({"exception": "y" * 300}, "y" * 199 + "…")],
)
def test_a_reason_is_one_short_line(details: dict[str, Any], reason: str) -> None:
    note = FailureWatch(0.5, window=1, sample=1).take(ended(1, failed=True, **details))
    assert note is not None
    assert note.message.endswith(f"the latest: {reason}")


# Budget


def test_each_share_of_the_budget_is_told_once_and_the_highest_of_several() -> None:
    watch = BudgetWatch((0.8, 0.5, 1.0), projected=False)
    costs = [0, 4.99, 5, 6, 7.99, 10, 11]
    assert [[note.message.partition(":")[0] for note in watch.take(standing(cost))] for cost in costs] == [
        [],
        [],
        ["50% of the budget is spent"],
        [],
        [],
        ["100% of the budget is spent"],
        [],
    ]


def test_what_was_reached_before_this_run_began_is_not_told_again() -> None:
    watch = BudgetWatch((0.5, 0.8), projected=False)
    assert [len(watch.take(standing(cost))) for cost in (6, 7, 8)] == [0, 0, 1]


def test_without_a_limit_there_is_no_budget() -> None:
    watch = BudgetWatch((0.5,), projected=True)
    assert watch.take(standing(100, limit=None)) == watch.take(standing(100, limit=None)) == []


def test_an_expected_excess_is_told_once_and_again_after_it_had_gone() -> None:
    watch = BudgetWatch((), projected=True)
    course = [(0, None), (19, 50), (20, 50), (30, 60), (40, 9.5), (50, 12), (60, 8.9), (70, 10), (80, 10.1)]
    kinds = [
        [
            note.kind
            for note in watch.take(
                standing(1, finished=finished, expected_cost=None if cost is None else Money(str(cost)))
            )
        ]
        for finished, cost in course
    ]
    assert kinds == [[], [], ["projection"], [], [], [], [], [], ["projection"]]


def test_tasks_of_earlier_runs_say_nothing_of_this_one() -> None:
    watch = BudgetWatch((), projected=True)
    watch.take(standing(1, finished=500))
    assert watch.take(standing(1, finished=510, expected_cost=Money(50))) == []
    assert len(watch.take(standing(1, finished=520, expected_cost=Money(50)))) == 1


def test_at_the_end_nothing_is_expected_any_more() -> None:
    watch = BudgetWatch((), projected=True)
    watch.take(standing(1))
    assert watch.take(standing(1, finished=500, expected_cost=Money(50), phase=JobPhase.STOPPED)) == []


# The end, and the text


@pytest.mark.parametrize(
    ("phase", "reason", "words"),
    [
        (JobPhase.COMPLETE, "", "it is complete"),
        (JobPhase.ABORTED, "no instance ever spoke", "it was given up (no instance ever spoke)"),
        (JobPhase.STOPPED, "", "it was stopped by its user"),
        (JobPhase.LEFT, "", "it was left by its user, its instances running"),
    ],
)
def test_the_end_is_told_with_what_it_came_to(phase: JobPhase, reason: str, words: str) -> None:
    note = describe_end(standing("0.27", finished=1000, failed=10, phase=phase, reason=reason))
    facts = "1,000 of 1,000 tasks have ended, 10 of them failed; it took 0:12:00 and cost $0.27"
    assert note == Note(kind="finish", message=f"{words}: {facts}")


def test_a_template_has_all_names_with_or_without_progress() -> None:
    names = "$message|$kind|$job_id|$phase|$reason|$total|$finished|$failed|$failure_rate|$cost|$expected_cost|"
    template = f"{names}$max_total_cost"
    check_template(template)
    note = Note(kind="finish", message="it ended")
    assert fill_in(template, note, job_id="sums", progress=None, rate=0.25) == (
        "Job sums: it ended|finish|sums||||||25%|||"
    )
    progress = standing(1, finished=7, failed=2, expected_cost=Money(3))
    assert fill_in(template, note, job_id="sums", progress=progress, rate=0.25) == (
        "Job sums: it ended|finish|sums|running||1000|7|2|25%|$1.00|$3.00|$10.00"
    )


def test_what_a_job_says_is_not_read_as_a_template_nor_as_markup() -> None:
    note = Note(kind="finish", message="$cost <!channel> & co")
    plain = fill_in("<a> $message costs $$5", note, job_id="", progress=None, rate=0.0)
    assert plain == "<a> $cost <!channel> & co costs $5"
    escaped = fill_in("<a> $message", note, job_id="", progress=None, rate=0.0, escape=escape_markup)
    assert escaped == "<a> $cost &lt;!channel&gt; &amp; co"


@pytest.mark.parametrize(
    ("template", "complaint"),
    [("$nobody", r"there is no \$nobody; it may name \$message"), ("5 $", "holds a \\$ that begins no name")],
)
def test_a_wrong_template_is_refused(template: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_template(template)
