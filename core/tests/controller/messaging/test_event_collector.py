"""Event collector: commits before acks, dead-letters malformed messages, and survives outages."""

from __future__ import annotations

from datetime import timedelta

from controller_fakes import event, message
from structlog.testing import capture_logs

from cloud_tasks.controller.messaging.event_collector import EventCollector
from cloud_tasks.errors import ProviderError
from cloud_tasks.model import EventType, TaskStatus


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


def test_stop_collects_the_remaining_messages_first(loop, store, queue) -> None:
    collector = EventCollector(loop, store, queue)
    collector.start()
    loop.run_for(timedelta(seconds=5))
    queue.inbox.extend(message(event(EventType.TASK_COMPLETED, n, task=n)) for n in range(5))
    collector.stop()
    loop.run(lambda: collector.stopped)
    assert store.summary().counts[TaskStatus.COMPLETED] == 5
