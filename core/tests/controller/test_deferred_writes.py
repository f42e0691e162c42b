"""Changes to a store that is locked by another program: made later, in order, each once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from controller_fakes import NOW
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from virtual_loop import VirtualLoop

from cloud_tasks.controller.deferred_writes import DeferredWrites, wait_for_store
from cloud_tasks.controller.event_loop import start
from cloud_tasks.errors import StoreBusyError, StoreFullError
from cloud_tasks.store import JobState, Store


class SwitchedStore:
    """A store whose only write works while it is on."""

    def __init__(self) -> None:
        self.is_on = True
        self.made: list[int] = []

    def check_writable(self) -> None:
        if not self.is_on:
            raise StoreBusyError("locked")

    def make(self, number: int) -> int:
        self.check_writable()
        self.made.append(number)
        return number


@given(switched=st.lists(st.integers(0, 50), max_size=6), at=st.lists(st.integers(0, 50), max_size=30))
def test_changes_are_made_in_the_order_of_their_calls_each_once(switched: list[int], at: list[int]) -> None:
    loop, store = VirtualLoop(), SwitchedStore()
    writes = DeferredWrites(loop, store)  # type: ignore[arg-type]
    results: list[int] = []

    def switch() -> None:
        store.is_on = not store.is_on

    def submit(number: int) -> None:
        writes.submit(lambda: store.make(number), results.append)

    for second in switched:
        loop.later(timedelta(seconds=second), switch)
    for number, second in enumerate(sorted(at)):
        loop.later(timedelta(seconds=second), lambda number=number: submit(number))  # type: ignore[misc]
    loop.run_for(timedelta(seconds=51))
    store.is_on = True
    loop.run_for(timedelta(seconds=30))
    assert store.made == results == list(range(len(at)))
    assert not writes.blocked


def test_block_is_reported_once_and_its_end_once(loop, store, lock) -> None:
    writes = DeferredWrites(loop, store)
    lock.hold()
    with capture_logs() as logged:
        for _ in range(3):
            writes.submit(lambda: store.set_state(JobState.RUNNING, NOW))
        loop.run_for(timedelta(minutes=5))
        assert store.job.state is not JobState.RUNNING
        lock.release()
        loop.run_for(timedelta(minutes=1))
    assert store.job.state is JobState.RUNNING
    first, last = (line["event"] for line in logged if line["log_level"] == "warning")
    assert first.startswith("The job database cannot be used since 2026-01-01 00:00:00 UTC: job.db: locked by another")
    assert last.startswith("The job database can be used again, after 5m")


def test_attempt_is_dropped_while_the_store_is_unavailable(loop, store, lock) -> None:
    writes = DeferredWrites(loop, store)
    lock.hold()
    assert not writes.attempt(lambda: store.set_state(JobState.RUNNING, NOW))
    assert not writes.attempt(lambda: store.set_state(JobState.RUNNING, NOW))
    assert lock.refused == 1
    lock.release()
    loop.run_for(timedelta(minutes=1))
    assert store.job.state is not JobState.RUNNING
    assert writes.attempt(lambda: store.set_state(JobState.RUNNING, NOW))


def test_error_that_is_no_obstacle_is_raised(loop, store) -> None:
    writes = DeferredWrites(loop, store)
    with pytest.raises(ZeroDivisionError):
        writes.submit(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        writes.attempt(lambda: 1 // 0)
    assert not writes.blocked


def test_settle_waits_for_the_changes_up_to_its_limit(loop, store, lock) -> None:
    writes = DeferredWrites(loop, store)
    lock.hold()
    writes.submit(lambda: store.set_state(JobState.RUNNING, NOW))
    ends: list[str] = []

    async def settle(name: str, timeout: timedelta | None) -> None:
        await writes.settle(timeout)
        ends.append(name)

    start(settle("short", timedelta(seconds=10)))
    start(settle("unlimited", None))
    loop.run_for(timedelta(minutes=2))
    assert ends == ["short"]
    lock.release()
    loop.run_for(timedelta(minutes=1))
    assert ends == ["short", "unlimited"]


def test_wait_for_store_repeats_until_the_obstacle_has_passed() -> None:
    errors = [StoreFullError("no space left on the disk"), StoreBusyError("locked")]
    slept: list[float] = []

    def use() -> str:
        if errors:
            raise errors.pop()
        return "done"

    with capture_logs() as logged:
        assert wait_for_store(use, sleep=slept.append) == "done"
    assert len(slept) == 2
    assert [line["log_level"] for line in logged] == ["warning", "warning"]


def test_check_writable_writes_and_changes_nothing(store: Store) -> None:
    before = store.job
    store.check_writable()
    assert store.job == before
