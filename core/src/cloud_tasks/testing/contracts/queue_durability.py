"""Contract of queues: no message is lost, with several processes, restarts and outages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import attrs
import pytest

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import Queue, Reach
from cloud_tasks.testing.contracts.contract import require_provider_errors
from cloud_tasks.testing.contracts.queue_subject import (
    AT_ONCE,
    OpenConsumer,
    QueueFixtures,
    QueueSubject,
    Receive,
    call_method,
    long_lease,
    receive_all,
    require_depth_if_exact,
)
from cloud_tasks.testing.second_process import SecondProcess, is_installed

__all__ = ["QueueDurability"]

_MAX_DELIVERIES = 20
_LONG_LEASE = timedelta(minutes=5)


class QueueDurability(QueueFixtures):
    """Part of the queue contract: objects stand for the processes of a job, and stay open as in a killed process."""

    # Confirmation

    def test_send_is_confirmed_when_it_returns(
        self, queue: Queue, consumers: OpenConsumer, subject: QueueSubject
    ) -> None:
        sender = consumers()
        assert list(sender.send([b"task"])) == []
        assert receive_all(queue, 1, subject.patience)[0].body == b"task"

    def test_send_to_a_missing_queue_reports_no_success(self, subject: QueueSubject, name: str) -> None:
        with subject.open(name) as queue:
            _require_failure("send", lambda: len(queue.send([b"first", b"second"])), 2)

    @pytest.mark.parametrize("method", ["ack", "release", "extend"])
    def test_lease_of_a_deleted_queue_reports_no_success(
        self, queue: Queue, consumers: OpenConsumer, subject: QueueSubject, method: str
    ) -> None:
        worker = consumers()
        queue.send([b"task"])
        lease = receive_all(worker, 1, subject.patience)[0].lease_id
        queue.delete()
        _require_failure(method, lambda: len(call_method(worker, method, [lease], lease=subject.lease)), 1)

    # Several processes

    @pytest.mark.parametrize("reset", ["delete", "purge"])
    def test_lease_of_another_object_ends_with_delete_and_purge(
        self, queue: Queue, consumers: OpenConsumer, subject: QueueSubject, one: Receive, reset: str
    ) -> None:
        worker = consumers()
        queue.send([b"old"])
        old = receive_all(worker, 1, subject.patience)[0].lease_id
        getattr(queue, reset)()
        queue.create()
        queue.send([b"new"])
        assert one().body == b"new"
        # The worker does not know; no call with its lease may affect the new message.
        with suppress(ProviderError):
            worker.release([old])
        assert list(queue.receive(1, wait=AT_ONCE)) == []
        with suppress(ProviderError):
            worker.extend([old], lease=long_lease(subject))
        with suppress(ProviderError):
            worker.ack([old])
        subject.advance(subject.lease * 1.5)
        assert one().body == b"new"

    def test_lease_ends_for_its_holder_when_another_object_receives_the_message(
        self, queue: Queue, consumers: OpenConsumer, subject: QueueSubject
    ) -> None:
        slow, fast = consumers(), consumers()
        queue.send([b"task"])
        lost = receive_all(slow, 1, subject.patience)[0].lease_id
        subject.advance(subject.lease * 1.5)
        held = receive_all(fast, 1, subject.patience)[0].lease_id
        assert list(slow.ack([lost])) == [lost]
        assert list(slow.release([lost])) == [lost]
        assert list(queue.receive(1, wait=AT_ONCE)) == []
        assert list(fast.ack([held])) == []

    def test_messages_are_exchanged_with_another_process_if_installed(
        self, queue: Queue, subject: QueueSubject, name: str, one: Receive
    ) -> None:
        if not is_installed("queue", subject.backend):
            return
        lease = long_lease(subject)
        process = SecondProcess(
            backend=subject.backend, settings=subject.settings, context=subject.context(name, lease=lease)
        )
        with subject.open(name, lease=lease) as holder:
            assert list(queue.send([b"held"])) == []
            held = receive_all(holder, 1, subject.patience)[0].lease_id
            assert list(queue.send([b"first"])) == []
            answer = process.exchange(subject.patience, b"second")
            assert answer == {"received": ["first"], "lost": [], "failures": []}
            assert one().body == b"second"
            assert list(queue.receive(1, wait=AT_ONCE)) == []
            assert list(holder.ack([held])) == []

    def test_reach_is_of_the_documented_values(self, subject: QueueSubject) -> None:
        # `run` refuses compute elsewhere by it.
        assert isinstance(subject.traits.reach, Reach)

    # Large jobs

    def test_receive_leases_many_messages_at_the_same_time(
        self, queue: Queue, subject: QueueSubject, name: str
    ) -> None:
        bodies = [b"%d" % number for number in range(subject.many)]
        assert list(queue.send(bodies)) == []
        require_depth_if_exact(queue, len(bodies), 0)
        lease = min(max(subject.lease * 60, _LONG_LEASE), subject.traits.max_lease)
        with subject.open(name, lease=lease) as consumer:
            deliveries = receive_all(consumer, len(bodies), subject.patience)
            assert sorted(each.body for each in deliveries) == sorted(bodies)
            require_depth_if_exact(queue, 0, len(bodies))
            assert list(consumer.ack([each.lease_id for each in deliveries])) == []

    def test_message_is_delivered_until_it_is_acked(self, queue: Queue, subject: QueueSubject, one: Receive) -> None:
        queue.send([b"task"])
        for _ in range(_MAX_DELIVERIES):
            assert list(queue.release([one().lease_id])) == []
        assert list(queue.ack([one().lease_id])) == []

    # Restarts and outages

    def test_messages_and_acks_outlive_a_restart(
        self, queue: Queue, consumers: OpenConsumer, subject: QueueSubject, one: Receive
    ) -> None:
        queue.send([b"first", b"second", b"third"])
        done, leased = one(), one()
        assert list(queue.ack([done.lease_id])) == []
        if subject.restart is not None:
            subject.restart()
        subject.advance(subject.lease * 1.5)
        consumer = consumers()
        require_depth_if_exact(consumer, 2, 0)
        received = receive_all(consumer, 2, subject.patience)
        assert {each.body for each in received} == {b"first", b"second", b"third"} - {done.body}
        assert leased.lease_id not in {each.lease_id for each in received}
        assert list(consumer.ack([each.lease_id for each in received])) == []
        assert list(consumer.receive(1, wait=AT_ONCE)) == []

    def test_unreachable_server_raises_transient_provider_errors(self, subject: QueueSubject, name: str) -> None:
        if subject.unreachable is not None:
            require_provider_errors(_calls(attrs.evolve(subject, settings=subject.unreachable), name), transient=True)

    def test_refused_credentials_raise_permanent_provider_errors(self, subject: QueueSubject, name: str) -> None:
        if subject.refused is not None:
            require_provider_errors(_calls(attrs.evolve(subject, settings=subject.refused), name), transient=False)


def _require_failure(method: str, failures: Callable[[], int], count: int) -> None:
    """Assert that a call raises `ProviderError`, or returns all of its entries as failed."""
    try:
        failed = failures()
    except ProviderError:
        return
    assert failed == count, f"{method} reported {count - failed} of {count} entries as done, without a queue"


def _calls(subject: QueueSubject, name: str) -> dict[str, Callable[[], object]]:
    """Return calls of all methods that need the server, each with an object of its own."""

    def call(method: Callable[[Queue], object]) -> Callable[[], object]:
        def opened() -> object:
            with subject.open(name) as queue:
                return method(queue)

        return opened

    return {
        "create": call(lambda queue: queue.create()),
        "exists": call(lambda queue: queue.exists()),
        "send": call(lambda queue: queue.send([b"task"])),
        "receive": call(lambda queue: queue.receive(1, wait=AT_ONCE)),
        "depth": call(lambda queue: queue.depth()),
        "purge": call(lambda queue: queue.purge()),
        "delete": call(lambda queue: queue.delete()),
    }
