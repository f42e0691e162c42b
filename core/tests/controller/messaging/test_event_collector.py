"""Event collector: commits before acks, dead-letters malformed messages, and survives outages."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import timedelta

import pytest
from controller_fakes import event, message
from store_facts import at
from structlog.testing import capture_logs

from cloud_tasks.controller.messaging.event_collector import EventCollector
from cloud_tasks.errors import ProviderError, StoreError
from cloud_tasks.model import Event, EventType, TaskStatus
from cloud_tasks.store import Applied, Store


def test_events_are_acked_only_after_their_commit(loop, store, queue) -> None:
    committed: list[int] = []
    queue.inbox.append(message(event(EventType.TASK_COMPLETED, 1, task=1)))
    collector = EventCollector(loop, store, queue, on_events=lambda batch: committed.append(len(queue.acked)))
    collector.start()
    loop.run(lambda: bool(queue.acked))
    assert committed == [0]
    assert store.summary().counts[TaskStatus.COMPLETED] == 1


def test_malformed_message_is_dead_lettered_and_blocks_no_other(loop, store, queue) -> None:
    queue.inbox.extend([b"\xff not json", b'[{"event_type": "nonsense"}]', message(event(EventType.KEEP_ALIVE, 1))])
    collector = EventCollector(loop, store, queue)
    collector.start()
    loop.run(lambda: len(queue.acked) == 3)
    assert store.summary().dead_letters == 2
    assert store.summary().events[EventType.KEEP_ALIVE] == 1


@pytest.mark.parametrize("body", [7, 1.5, "text \udce9", None, ["list"], bytearray(b"bytes"), memoryview(b"view")])
def test_message_body_of_any_type_is_dead_lettered_counted_and_acked(loop, store, queue, body) -> None:
    queue.inbox.extend([body, message(event(EventType.TASK_COMPLETED, 1, task=1))])
    EventCollector(loop, store, queue).start()
    loop.run(lambda: len(queue.acked) == 2)
    assert store.summary().dead_letters == 1
    assert store.summary().counts[TaskStatus.COMPLETED] == 1


def test_dead_letter_takes_a_body_of_any_type(store) -> None:
    bodies = [7, None, "text \udce9", object(), bytearray(b"bytes")]
    store.dead_letter([(body, "not bytes") for body in bodies], at(0))
    assert store.summary().dead_letters == len(bodies)


def test_valid_event_in_a_partly_malformed_message_is_applied(loop, store, queue) -> None:
    good = message(event(EventType.TASK_COMPLETED, 1, task=1)).decode()[1:-1]
    queue.inbox.append(f'[{good}, {{"event_type": 3}}]'.encode())
    collector = EventCollector(loop, store, queue)
    collector.start()
    loop.run(lambda: bool(queue.acked))
    assert store.summary().counts[TaskStatus.COMPLETED] == 1
    assert store.summary().dead_letters == 1


def test_duplicate_event_changes_nothing_and_is_logged(loop, store, queue) -> None:
    body = message(event(EventType.TASK_COMPLETED, 1, task=1))
    queue.inbox.extend([body, body])
    collector = EventCollector(loop, store, queue)
    with capture_logs() as logged:
        collector.start()
        loop.run(lambda: len(queue.acked) == 2)
    assert store.summary().counts[TaskStatus.COMPLETED] == 1
    assert store.summary().duplicates == 1
    assert {"event": "Duplicate events ignored: 1", "log_level": "debug"} in logged


def test_events_read_since_is_none_during_an_outage_and_restarts_after_it(loop, store, queue) -> None:
    collector = EventCollector(loop, store, queue)
    collector.start()
    loop.run_for(timedelta(seconds=30))
    before = collector.events_read_since
    queue.faults.extend(ProviderError("503", transient=True) for _ in range(8))
    loop.run_for(timedelta(seconds=70))
    assert collector.events_read_since is None
    loop.run_for(timedelta(seconds=120))
    assert before is not None
    assert collector.events_read_since is not None
    assert collector.events_read_since > before


def test_single_failed_receive_is_no_gap(loop, store, queue) -> None:
    collector = EventCollector(loop, store, queue)
    collector.start()
    loop.run_for(timedelta(seconds=30))
    before = collector.events_read_since
    queue.faults.append(ProviderError("503", transient=True))
    loop.run_for(timedelta(seconds=30))
    assert before is not None
    assert collector.events_read_since == before


def test_messages_received_before_an_outage_are_acked_after_it(loop, store, queue) -> None:
    queue.inbox.append(message(event(EventType.TASK_COMPLETED, 1, task=1)))
    collector = EventCollector(loop, store, queue, on_events=lambda batch: queue.faults.append(ProviderError("503")))
    collector.start()
    loop.run_for(timedelta(seconds=10))
    assert "1" in queue.acked


def test_acks_that_stay_refused_are_a_warning_once(loop, store, queue, monkeypatch) -> None:
    refuse = True
    accept = queue.ack

    def ack(lease_ids: Sequence[str]) -> object:
        if refuse:
            raise ProviderError("403: consume denied")
        return accept(lease_ids)

    monkeypatch.setattr(queue, "ack", ack)
    queue.inbox.append(message(event(EventType.TASK_COMPLETED, 1, task=1)))
    collector = EventCollector(loop, store, queue)
    with capture_logs() as logs:
        collector.start()
        loop.run_for(timedelta(minutes=2))
        refuse = False
        loop.run(lambda: bool(queue.acked))
    warnings = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
    assert warnings == [
        "The event queue does not let the controller remove messages; they come again: 403: consume denied"
    ]


def test_stop_collects_the_remaining_messages_first(loop, store, queue) -> None:
    collector = EventCollector(loop, store, queue)
    collector.start()
    loop.run_for(timedelta(seconds=5))
    queue.inbox.extend(message(event(EventType.TASK_COMPLETED, n, task=n)) for n in range(5))
    collector.stop()
    loop.run(lambda: collector.stopped)
    assert store.summary().counts[TaskStatus.COMPLETED] == 5


GOOD = [message(event(EventType.TASK_COMPLETED, n, task=n)) for n in range(3)]
HOSTILE = {
    "deep message": b"[" * 200_000,
    "deep result": message(event(EventType.TASK_COMPLETED, 8, task=8)).replace(
        b'"retry"', b'"result":' + b"[" * 5000 + b"]" * 5000 + b',"retry"'
    ),
    "infinite attempt": message(event(EventType.TASK_COMPLETED, 8, task=8)).replace(
        b'"attempt":1', b'"attempt":Infinity'
    ),
    "large attempt": message(event(EventType.TASK_COMPLETED, 8, task=8, attempt=2**63 - 1, retry=True)),
    "no text": message(event(EventType.TASK_COMPLETED, 8, task=8, instance_id={"a": 1})),
    "surrogate": message(event(EventType.TASK_EXCEPTION, 8, task=8, details={"exception": "caf\udce9.fits"})),
    "surrogate in the id": message(event(EventType.TASK_COMPLETED, 8, task=8, event_id="\ud800")),
    "surrogate in the host name": message(event(EventType.TASK_COMPLETED, 8, task=8, hostname="\ud800")),
    "NaN duration": message(event(EventType.TASK_COMPLETED, 8, task=8, elapsed_time=float("nan"))),
    "infinite duration": message(event(EventType.TASK_COMPLETED, 8, task=8, elapsed_time=float("inf"))),
    "end of the calendar": message(event(EventType.TASK_COMPLETED, 8, task=8)).replace(
        b"2026-01-01T00:00:08+00:00", b"9999-12-31T23:59:59-23:59"
    ),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_message_affects_no_other_and_the_database_can_be_read(loop, store, queue, body) -> None:
    queue.inbox.extend([body, *GOOD[:2], body, GOOD[2]])
    collector = EventCollector(loop, store, queue)
    collector.start()
    loop.run(lambda: len(queue.acked) == 5)
    assert [store.task(f"task-{n}")[1] for n in range(3)] == [TaskStatus.COMPLETED] * 3
    assert store.summary().dead_letters in (0, 2)
    assert store.statistics().summary.finished_tasks in (3, 4)


class Refusing:
    """Store that cannot apply certain events."""

    def __init__(self, store: Store, error: Exception, *event_ids: str) -> None:
        self._store = store
        self._error = error
        self._refused = set(event_ids)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def apply_events(self, events: Sequence[Event]) -> Applied:
        if self._refused.intersection(each.event_id for each in events):
            raise self._error
        return self._store.apply_events(events)


@pytest.mark.parametrize(
    "error", [ValueError("x"), OverflowError("x"), RecursionError(), sqlite3.ProgrammingError("x")]
)
def test_event_that_the_store_cannot_take_is_dead_lettered_and_the_others_are_counted(
    loop, store, queue, error
) -> None:
    committed: list[str] = []
    queue.inbox.append(message(*(event(EventType.TASK_COMPLETED, n, task=n) for n in range(9))))
    queue.inbox.append(message(event(EventType.TASK_COMPLETED, 9, task=9)))
    refusing = Refusing(store, error, "e3", "e9")
    collector = EventCollector(
        loop, refusing, queue, on_events=lambda batch: committed.extend(each.event_id for each in batch)
    )
    with capture_logs() as logged:
        collector.start()
        loop.run(lambda: len(queue.acked) == 2)
    assert committed == [f"e{n}" for n in (0, 1, 2, 4, 5, 6, 7, 8)]
    assert store.summary().counts[TaskStatus.COMPLETED] == 8
    assert store.summary().dead_letters == 2
    warnings = [line["event"] for line in logged if line["log_level"] == "warning"]
    assert warnings == [f"Malformed event message dead-lettered: cannot be stored: {type(error).__name__} (and 1 more)"]


@pytest.mark.parametrize("error", [StoreError("x"), sqlite3.DatabaseError("malformed"), OSError(28, "full")])
def test_failure_of_the_database_is_never_taken_for_that_of_an_event(loop, store, queue, error) -> None:
    queue.inbox.append(GOOD[0])
    collector = EventCollector(loop, Refusing(store, error, "e0"), queue)
    collector.start()
    with pytest.raises(type(error)):
        loop.run(lambda: bool(queue.acked))
    assert queue.acked == []
    assert store.summary().dead_letters == 0


def test_event_of_another_run_is_dead_lettered(loop, store, queue) -> None:
    named = [
        event(EventType.TASK_COMPLETED, n, task=n, details={"run_id": run}) for n, run in enumerate(("run", "other"))
    ]
    queue.inbox.append(message(*named, event(EventType.TASK_COMPLETED, 2, task=2)))
    collector = EventCollector(loop, store, queue)
    collector.start()
    loop.run(lambda: bool(queue.acked))
    assert [store.task(f"task-{n}")[1] is TaskStatus.COMPLETED for n in range(3)] == [True, False, True]
    assert store.summary().dead_letters == 1
