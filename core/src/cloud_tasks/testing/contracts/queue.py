"""Contract of queues."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import CheckContext, Delivery, Queue
from cloud_tasks.testing.contracts.contract import Contract, eventually, require_no_obstacle
from cloud_tasks.testing.contracts.queue_completeness import QueueCompleteness
from cloud_tasks.testing.contracts.queue_durability import QueueDurability
from cloud_tasks.testing.contracts.queue_subject import (
    AT_ONCE,
    Delay,
    OpenConsumer,
    QueueSubject,
    Receive,
    long_lease,
    receive_all,
    receive_up_to,
)
from cloud_tasks.testing.fakes.faults import Fault, When, inject

__all__ = ["QueueContract", "QueueSubject"]

_MORE_THAN_A_REQUEST = 12
_CLOCK_PRECISION = timedelta(minutes=20)
"""Less than between two time zones, and more than the age of the numbers of a service."""


class QueueContract(QueueDurability, QueueCompleteness, Contract):
    """At-least-once delivery with leases; see `cloud_tasks.plugin.Queue`."""

    # Creation and deletion

    def test_create_is_idempotent(self, subject: QueueSubject, name: str) -> None:
        with subject.open(name) as queue:
            assert not queue.exists()
            queue.create()
            queue.create()
            assert queue.exists()
            queue.delete()

    def test_delete_is_idempotent(self, queue: Queue, consumers: OpenConsumer) -> None:
        other = consumers()
        assert other.exists()
        queue.delete()
        queue.delete()
        assert not queue.exists()
        assert not other.exists()

    def test_missing_queue_raises_not_found(self, subject: QueueSubject, name: str) -> None:
        with subject.open(name) as queue:
            with pytest.raises(NotFoundError):
                queue.receive(1, wait=AT_ONCE)
            with pytest.raises(NotFoundError):
                queue.depth()
            with pytest.raises(NotFoundError):
                queue.purge()

    def test_delete_and_create_start_with_an_empty_queue(
        self, queue: Queue, subject: QueueSubject, one: Receive
    ) -> None:
        queue.send([b"leased", b"waiting"])
        old = one()
        queue.delete()
        queue.create()
        queue.send([b"new"])
        assert one().body == b"new"
        assert list(queue.ack([old.lease_id])) == [old.lease_id]
        subject.advance(subject.lease * 1.5)
        assert one().body == b"new"
        assert list(queue.receive(1, wait=AT_ONCE)) == []

    def test_purge_removes_visible_leased_and_delayed_messages(
        self, queue: Queue, subject: QueueSubject, one: Receive
    ) -> None:
        queue.send([b"leased", b"released", b"waiting"])
        one()
        queue.release([one().lease_id], delay=subject.lease)
        queue.send([b"delayed"], delay=subject.lease)
        queue.purge()
        subject.advance(subject.lease * 1.5)
        assert list(queue.receive(10, wait=AT_ONCE)) == []
        queue.send([b"after"])
        assert one().body == b"after"

    def test_send_outlives_its_object(self, queue: Queue, subject: QueueSubject, name: str, one: Receive) -> None:
        with subject.open(name) as sender:
            assert list(sender.send([b"durable"])) == []
        assert one().body == b"durable"

    # Sending

    @pytest.mark.parametrize(
        "body", [b'{"task_id": "t"}', '{"name": "λ ≠ 木"}'.encode(), b" \n<&>'\"\t ", bytes(range(256))]
    )
    def test_send_keeps_the_body_unchanged(self, queue: Queue, one: Receive, body: bytes) -> None:
        assert list(queue.send([body])) == []
        assert one().body == body

    def test_send_of_more_than_a_batch_is_complete(self, queue: Queue, subject: QueueSubject) -> None:
        count = 2 * min(subject.traits.send_batch, 1000) + 1
        bodies = [b"message %d" % number for number in range(count)]
        assert list(queue.send(bodies)) == []
        received: Counter[bytes] = Counter()
        for _ in range(count):
            deliveries = receive_all(queue, min(count - received.total(), 100), subject.patience)
            received.update(delivery.body for delivery in deliveries)
            queue.ack([delivery.lease_id for delivery in deliveries])
            if received.total() >= count or not deliveries:
                break
        assert received == Counter(bodies)

    def test_send_keeps_bodies_of_maximum_size(self, queue: Queue, subject: QueueSubject) -> None:
        size = subject.traits.max_message_bytes
        bodies = [b"a" * size, b"b" * size, b"c" * size]
        assert list(queue.send(bodies)) == []
        received = receive_all(queue, 3, subject.patience)
        assert sorted((delivery.body[:1], len(delivery.body)) for delivery in received) == [
            (b"a", size),
            (b"b", size),
            (b"c", size),
        ]

    def test_send_reports_an_oversized_message_only(self, queue: Queue, subject: QueueSubject) -> None:
        too_large = b"x" * (subject.traits.max_message_bytes + 1)
        failures = queue.send([b"first", too_large, b"last"])
        assert [(failure.index, failure.transient) for failure in failures] == [(1, False)]
        assert all(failure.reason for failure in failures)
        received = receive_all(queue, 2, subject.patience)
        assert sorted(delivery.body for delivery in received) == [b"first", b"last"]

    def test_calls_with_empty_arguments_do_nothing(self, queue: Queue) -> None:
        assert list(queue.send([])) == []
        assert list(queue.ack([])) == []
        assert list(queue.release([])) == []
        assert list(queue.extend([], lease=timedelta(seconds=10))) == []

    def test_send_with_a_delay_is_not_early_if_supported(self, queue: Queue, subject: QueueSubject, name: str) -> None:
        bodies = [b"%d" % number for number in range(_MORE_THAN_A_REQUEST)]
        delay = Delay(subject)
        queue.send(bodies, delay=delay.asked)
        if delay.granted:
            assert list(queue.receive(1, wait=AT_ONCE)) == []
            queue.send([b"at once"])
            prompt = receive_all(queue, 1, subject.patience)
            assert [each.body for each in prompt] == [b"at once"]
            queue.ack([each.lease_id for each in prompt])
        with subject.open(name, lease=long_lease(subject)) as worker:
            received = delay.received_after_it(worker, len(bodies))
        assert sorted(each.body for each in received) == sorted(bodies)

    # Receiving

    def test_receive_from_an_empty_queue_returns_nothing(self, queue: Queue) -> None:
        assert list(queue.receive(10, wait=AT_ONCE)) == []
        assert list(queue.receive(10, wait=timedelta(seconds=0.02))) == []

    def test_receive_returns_at_most_max_messages(self, queue: Queue, subject: QueueSubject) -> None:
        queue.send([b"%d" % number for number in range(5)])
        assert len(queue.receive(2, wait=subject.patience)) in (1, 2)

    def test_receive_returns_a_message_sent_while_waiting(
        self, queue: Queue, consumers: OpenConsumer, subject: QueueSubject
    ) -> None:
        consumer = consumers()
        started = threading.Event()

        def consume() -> Sequence[Delivery]:
            started.set()
            return consumer.receive(1, wait=subject.patience * 3)

        with ThreadPoolExecutor(1) as thread:
            received = thread.submit(consume)
            started.wait()
            queue.send([b"sent meanwhile"])
            # A call that returns only at the end of its wait would be too late.
            deliveries = received.result(timeout=subject.patience.total_seconds())
        assert [delivery.body for delivery in deliveries] == [b"sent meanwhile"]

    def test_receive_never_leases_a_message_twice(self, queue: Queue, subject: QueueSubject, name: str) -> None:
        bodies = [b"%d" % number for number in range(120)]
        queue.send(bodies)
        received: Counter[bytes] = Counter()
        leases: set[str] = set()
        lock = threading.Lock()
        all_leased = threading.Barrier(4)
        deadline = time.monotonic() + subject.patience.total_seconds()

        def consume() -> Sequence[str]:
            own: list[str] = []
            with subject.open(name, lease=long_lease(subject)) as consumer:
                while received.total() < len(bodies) and time.monotonic() < deadline:
                    deliveries = consumer.receive(3, wait=timedelta(seconds=0.05))
                    own += [delivery.lease_id for delivery in deliveries]
                    with lock:
                        received.update(delivery.body for delivery in deliveries)
                        leases.update(delivery.lease_id for delivery in deliveries)
                # No consumer acks before every message is leased.
                all_leased.wait()
                return consumer.ack(own)

        with ThreadPoolExecutor(4) as threads:
            lost = [lease for finished in [threads.submit(consume) for _ in range(4)] for lease in finished.result()]
        assert received == Counter(bodies)
        assert len(leases) == len(bodies)
        assert lost == []

    def test_queue_object_is_thread_safe(self, queue: Queue, subject: QueueSubject) -> None:
        with ThreadPoolExecutor(4) as threads:
            for failures in threads.map(lambda number: queue.send([b"%d" % number]), range(40)):
                assert list(failures) == []
            parts = list(threads.map(lambda _: receive_all(queue, 10, subject.patience), range(4)))
            deliveries = [delivery for part in parts for delivery in part]
            leases = [delivery.lease_id for delivery in deliveries]
            lost = [lease for part in threads.map(lambda lease: queue.ack([lease]), leases) for lease in part]
        assert {delivery.body for delivery in deliveries} == {b"%d" % number for number in range(40)}
        assert lost == []

    # Leases

    def test_lease_hides_a_message_until_it_expires(
        self, queue: Queue, consumers: OpenConsumer, subject: QueueSubject, one: Receive
    ) -> None:
        queue.send([b"task"])
        first = one()
        assert list(consumers().receive(1, wait=AT_ONCE)) == []
        subject.advance(subject.lease * 1.5)
        second = one()
        assert second.body == b"task"
        assert second.lease_id != first.lease_id

    def test_delivery_count_is_reported_if_supported(self, queue: Queue, subject: QueueSubject, one: Receive) -> None:
        queue.send([b"task"])
        counts = [one().delivery_count]
        subject.advance(subject.lease * 1.5)
        counts.append(one().delivery_count)
        if subject.traits.reports_delivery_count:
            assert counts == [1, 2]
        else:
            assert all(count is None or count >= 1 for count in counts)

    def test_ack_removes_a_message_for_good(self, queue: Queue, subject: QueueSubject, one: Receive) -> None:
        queue.send([b"task"])
        assert list(queue.ack([one().lease_id])) == []
        subject.advance(subject.lease * 1.5)
        assert list(queue.receive(1, wait=AT_ONCE)) == []

    def test_calls_can_be_repeated_after_a_lost_answer(self, queue: Queue, subject: QueueSubject, one: Receive) -> None:
        first = frozenset({1})
        unreliable = inject(queue, [Fault(method=name, calls=first, when=When.AFTER) for name in ("send", "ack")])
        with pytest.raises(ProviderError):
            unreliable.send([b"task"])
        unreliable.send([b"task"])
        # A queue that recognizes repeated messages has one.
        leases = [delivery.lease_id for delivery in receive_up_to(queue, 2, subject.patience)]
        with pytest.raises(ProviderError):
            unreliable.ack(leases)
        assert set(unreliable.ack(leases)) <= set(leases)
        subject.advance(subject.lease * 1.5)
        assert list(queue.receive(1, wait=AT_ONCE)) == []

    def test_calls_can_be_repeated_after_throttling(self, queue: Queue, subject: QueueSubject, one: Receive) -> None:
        throttled = inject(queue, [Fault(method=name, calls=frozenset({1})) for name in ("send", "extend", "release")])
        with pytest.raises(ProviderError):
            throttled.send([b"task"])
        throttled.send([b"task"])
        lease = one().lease_id
        with pytest.raises(ProviderError):
            throttled.extend([lease], lease=subject.lease)
        assert list(throttled.extend([lease], lease=subject.lease)) == []
        with pytest.raises(ProviderError):
            throttled.release([lease])
        assert list(throttled.release([lease])) == []
        assert one().body == b"task"
        assert list(queue.receive(1, wait=AT_ONCE)) == []

    def test_expired_lease_is_reported_and_has_no_effect(
        self, queue: Queue, subject: QueueSubject, one: Receive
    ) -> None:
        queue.send([b"task"])
        lost = one().lease_id
        subject.advance(subject.lease * 1.5)
        held = one().lease_id
        assert list(queue.ack([lost])) == [lost]
        assert list(queue.extend([lost], lease=subject.lease)) == [lost]
        assert list(queue.release([lost])) == [lost]
        assert list(queue.receive(1, wait=AT_ONCE)) == []
        assert list(queue.ack([held])) == []

    def test_extend_prolongs_a_lease(
        self, queue: Queue, consumers: OpenConsumer, subject: QueueSubject, one: Receive
    ) -> None:
        queue.send([b"task"])
        lease_id = one().lease_id
        other = consumers()
        # Each extension counts from its call.
        for elapsed in (1.5, 1.75):
            assert list(queue.extend([lease_id], lease=subject.lease * 3)) == []
            subject.advance(subject.lease * elapsed)
            assert list(other.receive(1, wait=AT_ONCE)) == []
        subject.advance(subject.lease * 1.5)
        assert one().body == b"task"

    def test_release_makes_a_message_visible_at_once(
        self, queue: Queue, consumers: OpenConsumer, subject: QueueSubject
    ) -> None:
        queue.send([b"task"])
        first = receive_all(queue, 1, subject.patience)[0]
        queue.extend([first.lease_id], lease=long_lease(subject))
        assert list(queue.release([first.lease_id])) == []
        (second,) = receive_all(consumers(), 1, subject.patience)
        assert second.body == b"task"
        assert list(queue.ack([first.lease_id])) == [first.lease_id]

    def test_release_with_a_delay_is_not_early_if_supported(
        self, queue: Queue, subject: QueueSubject, name: str
    ) -> None:
        queue.send([b"%d" % number for number in range(_MORE_THAN_A_REQUEST)])
        with subject.open(name, lease=long_lease(subject)) as worker:
            leases = [each.lease_id for each in receive_all(worker, _MORE_THAN_A_REQUEST, subject.patience)]
            delay = Delay(subject)
            assert list(worker.release(leases, delay=delay.asked)) == []
            if delay.granted:
                assert list(queue.receive(1, wait=AT_ONCE)) == []
            delay.received_after_it(worker, _MORE_THAN_A_REQUEST)

    # Depth

    def test_depth_follows_messages_if_exact(
        self, queue: Queue, consumers: OpenConsumer, subject: QueueSubject, name: str, one: Receive
    ) -> None:
        observers = (queue, consumers())

        def check_depth(visible: int, in_flight: int) -> None:
            for depth in [observer.depth() for observer in observers]:
                assert abs(depth.as_of - subject.now()) <= _CLOCK_PRECISION, depth
                assert all(figure is None or figure >= 0 for figure in (depth.visible, depth.in_flight))
                if depth.exact:
                    assert (depth.visible, depth.in_flight) == (visible, in_flight)

        check_depth(0, 0)
        queue.send([b"one", b"two"])
        check_depth(2, 0)
        with subject.open(name, lease=long_lease(subject)) as consumer:
            lease = receive_all(consumer, 1, subject.patience)[0].lease_id
            check_depth(1, 1)
            consumer.release([lease])
            check_depth(2, 0)
        one()
        subject.advance(subject.lease * 1.5)
        check_depth(2, 0)
        queue.ack([one().lease_id])
        check_depth(1, 0)
        if not queue.depth().exact:
            eventually(lambda: queue.depth(), lambda depth: depth.visible in (None, 0, 1), patience=subject.patience)

    # Checks

    def test_check_prevents_no_run_on_an_account_that_works(self, queue: Queue, subject: QueueSubject) -> None:
        context = CheckContext(region=subject.region, queue=subject.backend.name)
        require_no_obstacle(subject.backend, subject.settings, context)
