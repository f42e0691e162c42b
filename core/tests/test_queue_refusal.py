"""Errors of a queue that no retry can fix."""

from __future__ import annotations

import pytest

from cloud_tasks.errors import CredentialsError, NotFoundError, ProviderError
from cloud_tasks.queue_refusal import QueueRefusal

DENIED = ProviderError("authorization violation")
GONE = NotFoundError("no such queue")
EXPIRED = CredentialsError("the token has expired")
BUSY = ProviderError("throttled", transient=True)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("error", "first", "later"),
    [
        (DENIED, 60.0, 600.0),
        (GONE, 600.0, 600.0),
        (EXPIRED, 600.0, None),
        (BUSY, None, None),
        (ValueError("a defect of the plugin"), None, None),
    ],
)
@pytest.mark.parametrize("has_answered", [False, True])
def test_queue_refusal_ends_the_worker_after_its_time(
    error: Exception, first: float | None, later: float | None, has_answered: bool
) -> None:
    clock = Clock()
    refusal = QueueRefusal("task queue", clock=clock)
    if has_answered:
        refusal.answered()
    assert refusal.failed(error) == ""
    limit = later if has_answered else first
    clock.now = 1e9 if limit is None else limit - 0.1
    assert refusal.failed(error) == ""
    if limit is not None:
        clock.now = limit
        problem = "does not exist" if error is GONE else "refuses this worker"
        assert refusal.failed(error) == f"the task queue {problem}: {error}"


def test_queue_refusal_counts_from_the_last_answer() -> None:
    clock = Clock()
    refusal = QueueRefusal("task queue", clock=clock)
    refusal.failed(DENIED)
    assert refusal.is_refused
    clock.now = 59
    refusal.answered()
    assert not refusal.is_refused
    refusal.failed(GONE)
    assert not refusal.is_refused
    refusal.answered()
    clock.now = 600
    assert refusal.failed(DENIED) == ""


def test_queue_refusal_continues_to_count_between_transient_errors() -> None:
    clock = Clock()
    refusal = QueueRefusal("event queue", clock=clock)
    refusal.failed(DENIED)
    clock.now = 59
    assert refusal.failed(BUSY) == ""
    clock.now = 60
    assert refusal.failed(DENIED).startswith("the event queue refuses this worker")
