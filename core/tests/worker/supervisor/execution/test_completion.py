"""Completion of attempts, with and without their lease."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from cloud_tasks.retry_rule import RetryRule
from cloud_tasks.worker.consumers.attempt_types import PendingAttempt
from cloud_tasks.worker.reporting.event_encoder import EventEncoder
from cloud_tasks.worker.supervisor.execution.completion import CompletionHandler
from cloud_tasks.worker.supervisor.execution.outcome import Outcome, OutcomeKind
from cloud_tasks.worker.supervisor.execution.retry_policy import Backoff, RetryRules

RULES = RetryRules(
    rules=(RetryRule(on="exception", attempts=2),), max_attempts=2, max_losses=0, backoff=Backoff(base=0.0)
)
TEXT = "a message"


def outcome(kind: str) -> Outcome:
    details = {"exception": TEXT, "exception_type": "ValueError"} if kind == "exception" else {}
    return Outcome(kind=OutcomeKind(kind), details=details, result=b"null" if kind == "retry_requested" else b"")


def completed(kind: str, *, attempt: int = 1, lease_lost: bool = True, counts_deliveries: bool = True) -> Any:
    """Return the report of an attempt that ended in this way."""
    reported: list[Any] = []
    reporter: Any = SimpleNamespace(put=reported.append)
    handler = CompletionHandler(
        RULES, EventEncoder("host"), reporter, counts_deliveries=counts_deliveries, max_event_bytes=1000
    )
    work = PendingAttempt("task", {}, attempt=attempt, lease_id="lease")
    work.lease_lost = lease_lost
    return handler.complete(work, outcome(kind), 1.0).report


def events(report: Any) -> list[dict[str, Any]]:
    return [json.loads(event) for event in report.events]


@pytest.mark.parametrize("counts_deliveries", [True, False])
@pytest.mark.parametrize("kind", ["exception", "retry_requested", "lost", "released"])
def test_completion_of_an_attempt_without_lease_sends_and_releases_nothing(kind, counts_deliveries) -> None:
    report = completed(kind, counts_deliveries=counts_deliveries)
    (event,) = events(report)
    assert (report.lease_id, report.next_body, report.release) == (None, None, False)
    assert (event["event_type"], event["attempt"], event["lease_lost"]) == ("task_released", 1, True)
    assert event["cause"]


def test_completion_of_a_failed_attempt_without_lease_keeps_the_exception() -> None:
    (event,) = events(completed("exception"))
    assert (event["exception"], event["exception_type"]) == (TEXT, "ValueError")


def test_completion_of_a_last_attempt_without_lease_is_reported_as_final() -> None:
    report = completed("exception", attempt=2)
    assert [(event["event_type"], event["retry"]) for event in events(report)] == [
        ("task_exception", False),
        ("task_dead", False),
    ]
    assert (report.lease_id, report.next_body) == (None, None)


def test_completion_of_a_failed_attempt_with_its_lease_sends_the_next() -> None:
    report = completed("exception", lease_lost=False)
    (event,) = events(report)
    assert (event["event_type"], event["retry"], report.lease_id) == ("task_exception", True, "lease")
    assert json.loads(report.next_body)["attempt"] == 2


def test_completion_of_an_interrupted_attempt_with_its_lease_is_dead_after_max_losses() -> None:
    assert [event["event_type"] for event in events(completed("lost", lease_lost=False))] == [
        "task_released",
        "task_dead",
    ]


@pytest.mark.parametrize("counts_deliveries", [True, False])
def test_completion_of_an_interrupted_attempt_delays_the_next(counts_deliveries) -> None:
    rules = RULES._replace(max_losses=5, backoff=Backoff(base=10.0))
    reporter: Any = SimpleNamespace(put=lambda report: None)
    handler = CompletionHandler(rules, EventEncoder("host"), reporter, counts_deliveries=counts_deliveries)
    delays = []
    for losses in range(3):
        work = PendingAttempt("task", {}, losses=losses, lease_id="lease")
        delays.append(handler.complete(work, outcome("lost"), 1.0).report.delay)
        assert handler.complete(work, outcome("released"), 1.0).report.delay == 0
    assert all(base / 2 <= delay <= base for base, delay in zip((10, 20, 40), delays, strict=True))
