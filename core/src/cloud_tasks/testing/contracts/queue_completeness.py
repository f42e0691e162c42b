"""Contract of queues: each call affects its own queue only, and all of its messages, however many there are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta

import pytest

from cloud_tasks.plugin import Queue
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

__all__ = ["QueueCompleteness"]

_MANY = 120
"""More than usual services take in one request: 10, 32, 100."""
_MANY_BODIES = [b"%d" % number for number in range(_MANY)]
_PROCESSES = 3
_METHODS = ("ack", "release", "extend")


class QueueCompleteness(QueueFixtures):
    """Part of the queue contract."""

    @pytest.fixture
    def others(self, queue: Queue, subject: QueueSubject, name: str) -> Iterator[Sequence[Queue]]:
        """Return existing queues whose names resemble that of ``queue``: of its job, of another run, of another job."""
        stem, number = name.rsplit("-", 1)
        names = (f"{name}-events", f"{name}0", f"{stem[:-1]}x-{number}", f"x{name[1:]}")
        with ExitStack() as stack:
            queues = [stack.enter_context(subject.open(each, lease=long_lease(subject))) for each in names]
            for each in queues:
                each.create()
            yield queues
            for each in queues:
                each.delete()

    # Several queues

    def test_queues_of_different_names_are_separate(
        self, queue: Queue, others: Sequence[Queue], subject: QueueSubject
    ) -> None:
        queues = [queue, *others]
        bodies = [b"%d" % number for number in range(len(queues))]
        for each, body in zip(queues, bodies, strict=True):
            assert list(each.send([body])) == []
        depths = [each.depth() for each in queues]
        assert {depth.visible for depth in depths if depth.exact} <= {1}
        assert [receive_all(each, 1, subject.patience)[0].body for each in queues] == bodies
        assert [list(each.receive(1, wait=AT_ONCE)) for each in queues] == [[] for _ in queues]

    @pytest.mark.parametrize("is_own", [True, False], ids=["of_a_short_name", "of_a_long_name"])
    def test_delete_and_purge_affect_no_other_queue(
        self, queue: Queue, others: Sequence[Queue], subject: QueueSubject, name: str, is_own: bool
    ) -> None:
        with subject.open(name, lease=long_lease(subject)) as own:
            changed, kept = ([own], others) if is_own else (others, [own])
            for each in kept:
                assert list(each.send([b"leased", b"waiting"])) == []
            leases = [[receive_all(each, 1, subject.patience)[0].lease_id] for each in kept]
            for each in changed:
                each.purge()
            for each, held in zip(kept, leases, strict=True):
                held.append(receive_all(each, 1, subject.patience)[0].lease_id)
            for each in changed:
                each.delete()
            assert [each.exists() for each in kept] == [True for _ in kept]
            assert [list(each.ack(held)) for each, held in zip(kept, leases, strict=True)] == [[] for _ in kept]

    # Several processes

    def test_create_of_an_existing_queue_keeps_its_messages_and_leases(
        self, queue: Queue, subject: QueueSubject, name: str
    ) -> None:
        lease = long_lease(subject)
        with subject.open(name, lease=lease) as worker, subject.open(name, lease=lease / 2) as resumed:
            queue.send([b"first", b"second"])
            held = receive_all(worker, 1, subject.patience)
            resumed.create()
            assert resumed.exists()
            held += receive_all(worker, 1, subject.patience)
            assert sorted(each.body for each in held) == [b"first", b"second"]
            assert list(worker.ack([each.lease_id for each in held])) == []

    def test_create_and_delete_succeed_in_several_processes_at_once(
        self, subject: QueueSubject, consumers: OpenConsumer
    ) -> None:
        processes = [consumers() for _ in range(_PROCESSES)]
        together = threading.Barrier(_PROCESSES)

        def at_once(method: Callable[[Queue], object]) -> None:
            def call(process: Queue) -> None:
                together.wait()
                method(process)

            with ThreadPoolExecutor(_PROCESSES) as threads:
                list(threads.map(call, processes))

        at_once(lambda process: process.create())
        assert [process.exists() for process in processes] == [True] * _PROCESSES
        assert list(processes[0].send([b"task"])) == []
        assert receive_all(processes[1], 1, subject.patience)[0].body == b"task"
        at_once(lambda process: process.delete())
        assert [process.exists() for process in processes] == [False] * _PROCESSES

    def test_close_keeps_the_leases_of_other_objects(self, queue: Queue, subject: QueueSubject, name: str) -> None:
        with subject.open(name, lease=long_lease(subject)) as worker:
            queue.send([b"task"])
            held = receive_all(worker, 1, subject.patience)[0].lease_id
            with subject.open(name) as other:
                assert other.exists()
            assert list(queue.receive(1, wait=AT_ONCE)) == []
            assert list(worker.ack([held])) == []

    def test_lease_has_the_length_of_its_object(
        self, queue: Queue, subject: QueueSubject, name: str, one: Receive
    ) -> None:
        with subject.open(name, lease=long_lease(subject)) as patient:
            patient.create()
            queue.send([b"first", b"second"])
            kept = receive_all(patient, 1, subject.patience)[0]
            returned = one()
            subject.advance(subject.lease * 1.5)
            assert one().body == returned.body
            assert list(queue.receive(1, wait=AT_ONCE)) == []
            assert list(patient.ack([kept.lease_id])) == []

    # Many messages

    def test_purge_of_many_messages_is_complete(self, queue: Queue, subject: QueueSubject, name: str) -> None:
        assert list(queue.send(_MANY_BODIES)) == []
        with subject.open(name, lease=long_lease(subject)) as worker:
            receive_all(worker, 1, subject.patience)
        queue.purge()
        assert list(queue.receive(1, wait=AT_ONCE)) == []

    def test_release_and_ack_of_many_messages_are_complete(
        self, queue: Queue, subject: QueueSubject, name: str
    ) -> None:
        with subject.open(name, lease=long_lease(subject)) as worker:
            assert list(worker.release(list(_lease_many(worker, subject)))) == []
        leases = {each.lease_id: each.body for each in receive_all(queue, _MANY, subject.patience)}
        _require_no_return(queue, subject, leases, lost=queue.ack(list(leases)))

    def test_extend_of_many_messages_is_complete(self, queue: Queue, subject: QueueSubject) -> None:
        leases = _lease_many(queue, subject)
        lost = queue.extend(list(leases), lease=long_lease(subject))
        _require_no_return(queue, subject, leases, lost=lost)
        assert list(queue.ack([lease for lease in leases if lease not in lost])) == []

    @pytest.mark.parametrize("method", _METHODS)
    def test_lost_leases_are_reported_among_many(
        self, queue: Queue, consumers: OpenConsumer, subject: QueueSubject, name: str, method: str
    ) -> None:
        bodies = [b"%d" % number for number in range(25)]
        queue.send(bodies)
        lease = long_lease(subject)
        with subject.open(name, lease=lease) as worker, subject.open(name, lease=lease) as other:
            leases = {each.lease_id: each.body for each in receive_all(worker, len(bodies), subject.patience)}
            ids = list(leases)
            lost = [*ids[5:8], ids[14], ids[24]]
            assert list(worker.release(lost)) == []
            elsewhere = [each.body for each in receive_all(other, len(lost), subject.patience)]
            assert sorted(elsewhere) == sorted(leases[each] for each in lost)
            assert sorted(call_method(worker, method, ids, lease=lease)) == sorted(lost)
            kept = len(ids) - len(lost)
            counts = {"ack": (0, len(lost)), "release": (kept, len(lost)), "extend": (0, len(ids))}
            require_depth_if_exact(queue, *counts[method])
            if method == "release":
                again = [each.body for each in receive_all(worker, kept, subject.patience)]
                assert sorted([*again, *elsewhere]) == sorted(bodies)

    @pytest.mark.parametrize("method", _METHODS)
    def test_unknown_lease_is_reported(self, queue: Queue, subject: QueueSubject, one: Receive, method: str) -> None:
        queue.send([b"task"])
        unknown, held = "contract-unknown-lease", one().lease_id
        assert list(call_method(queue, method, [unknown, held], lease=long_lease(subject))) == [unknown]

    def test_send_reports_oversized_messages_by_their_index(self, queue: Queue, subject: QueueSubject) -> None:
        batch = min(subject.traits.send_batch, 1000)
        bodies = [b"%d" % number for number in range(batch + 2)]
        oversized = sorted({1, batch, batch + 1})
        for index in oversized:
            bodies[index] = b"x" * (subject.traits.max_message_bytes + 1)
        failures = sorted(queue.send(bodies), key=lambda failure: failure.index)
        assert [(failure.index, failure.transient) for failure in failures] == [(index, False) for index in oversized]

    # Limits of the traits

    def test_delay_and_lease_are_cut_to_the_traits(self, queue: Queue, subject: QueueSubject, one: Receive) -> None:
        longer = timedelta(days=1)
        queue.send([b"task"])
        lease = one().lease_id
        assert list(queue.extend([lease], lease=subject.traits.max_lease + longer)) == []
        assert list(queue.release([lease], delay=subject.traits.delay + longer)) == []
        assert list(queue.send([b"task"], delay=subject.traits.delay + longer)) == []


def _lease_many(queue: Queue, subject: QueueSubject) -> dict[str, bytes]:
    """Send many messages and lease them. Return their bodies by lease id."""
    assert list(queue.send(_MANY_BODIES)) == []
    return {each.lease_id: each.body for each in receive_all(queue, _MANY, subject.patience)}


def _require_no_return(queue: Queue, subject: QueueSubject, leases: Mapping[str, bytes], lost: Sequence[str]) -> None:
    """Assert that no message returns after the short leases, except those whose lease was reported as lost.

    On a slow machine, the first leases may have ended before they were used.
    """
    subject.advance(subject.lease * 1.5)
    returned = {each.body for each in queue.receive(len(leases), wait=AT_ONCE)}
    assert returned <= {leases[each] for each in lost}, f"{len(returned)} messages are delivered again"
