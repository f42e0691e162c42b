"""Invariants of large bodies that are stored outside of their queue."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, closing
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from request_service import TRAITS, RequestQueue, RequestService
from structlog.testing import capture_logs

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import Queue, QueueBackend, QueueContext
from cloud_tasks.plugin.kit import OversizeQueue, Refused
from cloud_tasks.plugin.kit import batches as batches_module
from cloud_tasks.testing import QueueContract, QueueSubject

NOW = timedelta(0)
MINUTE = timedelta(minutes=1)
LIMIT = 100


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "_INITIAL_BACKOFF", 0.0)


class Store:
    """A `BodyStore` in memory, with an object of somebody else."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {"private": b"private"}
        self.failing: dict[str, ProviderError] = {}
        self.log: list[str] = []

    def put(self, name: str, body: bytes) -> None:
        self._note("put")
        self.bodies[name] = body

    def get(self, name: str) -> bytes | None:
        self._note("get")
        return self.bodies.get(name)

    def remove(self, names: Sequence[str]) -> None:
        self._note("remove")
        for name in names:
            self.bodies.pop(name, None)

    def names(self) -> Iterable[str]:
        return list(self.bodies)

    @property
    def stored(self) -> list[bytes]:
        return [body for name, body in self.bodies.items() if name != "private"]

    def _note(self, action: str) -> None:
        if action in self.failing:
            raise self.failing[action]
        self.log.append(action)


@pytest.fixture
def service() -> RequestService:
    return RequestService()


@pytest.fixture
def store() -> Store:
    return Store()


def opened(service: RequestService, store: Store | None, name: str = "queue") -> OversizeQueue:
    inner = RequestQueue(service, QueueContext(job_id="job", name=name, lease=MINUTE))
    return OversizeQueue(inner, store, fits=lambda body: len(body) <= LIMIT, remedy="set depot.folder")


@pytest.fixture
def queue(service: RequestService, store: Store) -> OversizeQueue:
    queue = opened(service, store)
    queue.create()
    return queue


class TestOversizeQueue(QueueContract):
    @pytest.fixture
    def subject(self, service: RequestService) -> QueueSubject:
        def advance(duration: timedelta) -> None:
            service.now += duration.total_seconds()

        def open_queue(settings: Any, context: QueueContext) -> AbstractContextManager[Queue]:
            # Every body but the shortest is stored outside.
            inner = RequestQueue(service, context)
            return closing(
                OversizeQueue(
                    inner,
                    stores[context.name],
                    fits=lambda body: len(body) < 4,
                    remedy="set it",
                    max_bytes=TRAITS.max_message_bytes,
                )
            )

        stores = _Stores()
        backend = QueueBackend(name="oversize", summary="oversize", traits=TRAITS, open=open_queue)
        return QueueSubject(backend=backend, lease=timedelta(seconds=60), advance=advance)


class _Stores(dict[str, Store]):
    def __missing__(self, name: str) -> Store:
        self[name] = Store()
        return self[name]


def leases(queue: OversizeQueue, count: int = 10) -> list[str]:
    return [each.lease_id for each in queue.receive(count, wait=NOW)]


@given(st.lists(st.binary(max_size=2 * LIMIT) | st.just(b"\0cloud-tasks-body:" + b"0" * 32), max_size=12))
def test_any_body_arrives_as_it_was_sent(bodies: list[bytes]) -> None:
    service, store = RequestService(), Store()
    queue = opened(service, store)
    queue.create()
    assert queue.send(bodies) == []
    found = queue.receive(50, wait=NOW)
    assert sorted(each.body for each in found) == sorted(bodies)
    assert queue.ack([each.lease_id for each in found]) == []
    assert store.stored == []
    queue.close()


def test_body_is_stored_before_its_message_is_sent(queue: OversizeQueue, service: RequestService, store: Store) -> None:
    def faults(action: str, count: int) -> dict[int, Refused]:
        assert action != "send" or len(store.stored) == 3
        return {}

    service.faults = faults
    assert queue.send([b"x" * 500] * 3) == []


def test_body_is_removed_after_its_ack_only(queue: OversizeQueue, store: Store) -> None:
    queue.send([b"x" * 500, b"small"])
    assert queue.release(leases(queue)) == []
    held = leases(queue)
    assert queue.extend(held, lease=MINUTE) == []
    assert store.stored == [b"x" * 500]
    assert queue.ack(held) == []
    assert store.stored == []


def test_body_of_a_lost_lease_stays(queue: OversizeQueue, service: RequestService, store: Store) -> None:
    queue.send([b"x" * 500])
    held = leases(queue)
    service.now += 61
    assert queue.ack(held) == held
    assert store.stored == [b"x" * 500]


def test_leases_of_other_queues_are_lost_each_by_its_id(queue: OversizeQueue) -> None:
    assert list(queue.ack(["elsewhere", "other", "", "a:b", "b"])) == ["elsewhere", "other", "", "a:b", "b"]


def test_message_without_a_body_is_a_finished_duplicate(queue: OversizeQueue, store: Store) -> None:
    queue.send([b"x" * 500, b"small"])
    name = next(name for name in store.bodies if name != "private")
    del store.bodies[name]
    with capture_logs() as lines:
        assert [each.body for each in queue.receive(9, wait=NOW)] == [b"small"]
    assert [name in line["event"] for line in lines] == [True]
    assert queue.depth().in_flight == 1


@pytest.mark.parametrize("error", [ProviderError("no access"), NotFoundError("no such bucket")])
def test_unreadable_store_loses_no_message(
    queue: OversizeQueue, service: RequestService, store: Store, error: ProviderError
) -> None:
    queue.send([b"x" * 500, b"small"])
    store.failing["get"] = error
    assert [each.body for each in queue.receive(9, wait=NOW)] == [b"small"]
    service.now += 61
    queue.ack(leases(queue))
    service.now += 61
    # The small message was acked with the second delivery.
    with pytest.raises(ProviderError, match=error.message) as caught:
        queue.receive(9, wait=NOW)
    assert not isinstance(caught.value, NotFoundError)
    store.failing.clear()
    service.now += 61
    assert [each.body for each in queue.receive(9, wait=NOW)] == [b"x" * 500]


def test_body_that_cannot_be_stored_is_a_failure_of_its_message(queue: OversizeQueue, store: Store) -> None:
    store.failing["put"] = ProviderError("disk full", transient=True)
    (failure,) = queue.send([b"a", b"x" * 500, b"b"])
    assert (failure.index, failure.reason, failure.transient) == (1, "disk full", True)
    assert sorted(each.body for each in queue.receive(9, wait=NOW)) == [b"a", b"b"]
    (failure,) = queue.send([b"x" * 500])
    assert failure.index == 0


def test_failures_have_the_index_of_the_body(queue: OversizeQueue, service: RequestService, store: Store) -> None:
    service.faults = lambda action, count: {count - 1: Refused("malformed", transient=False)} if count == 2 else {}
    store.failing["put"] = ProviderError("disk full", transient=True)
    assert [each.index for each in queue.send([b"x" * 500, b"a", b"b"])] == [0, 2]


def test_body_of_a_refused_message_is_removed(queue: OversizeQueue, service: RequestService, store: Store) -> None:
    service.faults = lambda action, count: {0: Refused("malformed", transient=False)}
    assert len(queue.send([b"x" * 500])) == 1
    assert store.stored == []
    # The message of a transient failure may have been accepted.
    service.faults = lambda action, count: {0: Refused("busy")}
    assert len(queue.send([b"x" * 500])) == 1
    assert store.stored == [b"x" * 500]


def test_failed_removal_does_not_fail_the_ack(queue: OversizeQueue, store: Store) -> None:
    queue.send([b"x" * 500])
    held = leases(queue)
    store.failing["remove"] = ProviderError("no access")
    with capture_logs() as lines:
        assert queue.ack(held) == []
    assert ["no access" in line["event"] for line in lines] == [True]
    store.failing.clear()
    queue.delete()
    assert store.stored == []


@pytest.mark.parametrize("remove", [OversizeQueue.delete, OversizeQueue.purge])
def test_delete_and_purge_remove_the_stored_bodies_only(
    queue: OversizeQueue, store: Store, remove: Callable[[OversizeQueue], None]
) -> None:
    queue.send([b"x" * 500] * 3)
    assert len(store.stored) == 3
    remove(queue)
    assert store.bodies == {"private": b"private"}


@pytest.mark.parametrize("name", ["private", "../private", "0" * 31 + "G", "0" * 33])
def test_message_cannot_select_another_object(queue: OversizeQueue, service: RequestService, name: str) -> None:
    forged = b"\0cloud-tasks-body:" + name.encode()
    service.send("queue", [forged], 0)
    assert [each.body for each in queue.receive(9, wait=NOW)] == [forged]


def test_queue_without_a_store_refuses_large_bodies(service: RequestService, queue: OversizeQueue) -> None:
    queue.send([b"x" * 500])
    without = opened(service, None)
    (failure,) = without.send([b"x" * 101, b"x" * 100])
    assert (failure.index, failure.transient) == (0, False)
    assert failure.reason == "101 bytes cannot be sent in a message; set depot.folder"
    assert [each.body for each in without.receive(2, wait=NOW)] == [b"x" * 100]
    service.now += 61
    without.ack(leases(without))
    service.now += 61
    with pytest.raises(ProviderError, match=re.escape("stored elsewhere")) as caught:
        without.receive(9, wait=NOW)
    assert caught.value.hint == "set depot.folder as on the sender"
