"""The buffer of fetched tasks."""

from __future__ import annotations

import time
from datetime import timedelta
from queue import Queue
from types import SimpleNamespace

import pytest

from cloud_tasks.plugin import Delivery, QueueTraits
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.consumers.attempt_types import PendingAttempt
from cloud_tasks.worker.consumers.lease_extender import LeaseExtender
from cloud_tasks.worker.consumers.queue import QueueConsumer
from cloud_tasks.worker.consumers.task_buffer import TaskBuffer, prefetch_target


def work(name: str) -> PendingAttempt:
    return PendingAttempt(name, {}, lease_id=name)


def drain(buffer: TaskBuffer) -> list[str]:
    return [found.task_id for found in iter(buffer.get, None)]


@pytest.mark.parametrize(
    ("mean", "slots", "target"), [(None, 4, 0), (1.0, 1, 0), (0.5, 4, 4), (0.01, 2, 100), (0.0, 1, 512)]
)
def test_prefetch_target_is_half_a_second_of_tasks(mean, slots, target) -> None:
    assert prefetch_target(mean, slots) == target


def test_prefetch_target_is_a_second_of_tasks_where_requests_cost_money() -> None:
    assert prefetch_target(0.5, 4, is_billed=True) == 8
    assert prefetch_target(None, 4, is_billed=True) == 0


def test_buffer_returns_due_held_tasks_first_and_keeps_others() -> None:
    buffer, now = TaskBuffer(), time.monotonic()
    assert buffer.add([work("a"), work("b")])
    assert buffer.hold(work("due"), -1)
    assert buffer.hold(work("later"), 3600)
    assert drain(buffer) == ["due", "a", "b"]
    assert buffer.due_at is not None
    assert now + 3600 <= buffer.due_at <= time.monotonic() + 3600


def test_buffer_never_returns_a_task_whose_lease_expired() -> None:
    buffer = TaskBuffer()
    buffer.add([work("a"), work("b")])
    buffer.hold(work("c"), -1)
    buffer.mark_lost({"a", "c"})
    assert drain(buffer) == ["b"]


def test_buffer_returns_the_last_due_tasks_as_surplus() -> None:
    buffer = TaskBuffer()
    buffer.add([work("a"), work("b"), work("c")])
    buffer.hold(work("due"), -1)
    assert buffer.promote_due() == 4
    assert [found.task_id for found in buffer.take_surplus(2)] == ["due", "c"]
    assert drain(buffer) == ["a", "b"]


def test_buffer_accepts_no_task_once_closed() -> None:
    buffer = TaskBuffer()
    buffer.add([work("a")])
    buffer.hold(work("b"), 3600)
    assert [found.task_id for found in buffer.close()] == ["a", "b"]
    assert not buffer.add([work("c")])
    assert not buffer.hold(work("d"), 3600)
    assert (drain(buffer), buffer.due_at) == ([], None)


@pytest.mark.parametrize(
    ("not_before", "delay", "expected"), [(3600, 5.0, 5.0), (3, 5.0, 3.0), (-3600, 5.0, -3600), (60, None, 60)]
)
def test_pending_attempt_waits_for_its_delay_at_most(not_before, delay, expected) -> None:
    attempt = PendingAttempt("task", {}, not_before=time.time() + not_before, delay=delay)
    assert attempt.wait == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(("is_billed", "count"), [(False, 4), (True, 8)])
def test_consumer_asks_for_more_tasks_where_requests_cost_money(is_billed, count) -> None:
    asked: Queue[int] = Queue()

    def receive(most: int, *, wait: timedelta) -> list[Delivery]:
        asked.put(most)
        return []

    traits = QueueTraits(
        max_lease=timedelta(hours=1), max_message_bytes=1000, receive_batch=100, send_batch=10, bills_requests=is_billed
    )
    log = Log(verbose=False)
    consumer = QueueConsumer(
        SimpleNamespace(receive=receive),
        traits,
        LeaseExtender(SimpleNamespace(), timedelta(seconds=60), log=log),
        slots=4,
        max_losses=0,
        on_malformed=print,
        on_dead=print,
        on_unused=print,
        on_change=lambda: None,
        log=log,
    )
    consumer.start()
    consumer.request(0, mean_seconds=0.5)
    assert asked.get(timeout=60) == count
    consumer.close()
