"""Storage Queue beyond the contract: names that are refused, large messages, other people's queues, lost answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any
from uuid import uuid4

import attrs
import pytest
from azure.storage.queue import QueueServiceClient
from azurite import Azurite, azurite_server
from storage_faults import StorageFaults

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import Delivery, Queue, QueueContext
from cloud_tasks.registry import Registry
from cloud_tasks_azure.settings import AzureSettings

LEASE = timedelta(seconds=60)
SOON = timedelta(seconds=20)
LARGE = b"x" * (100 * 1024)


@attrs.frozen
class Place:
    """A storage account with trouble on demand."""

    azurite: Azurite
    faults: StorageFaults
    open: Callable[..., Queue]
    name: str

    def service(self) -> QueueServiceClient:
        return QueueServiceClient.from_connection_string(self.azurite.connection_string)


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    with azurite_server() as server:
        yield server


@pytest.fixture
def place(azurite: Azurite) -> Iterator[Place]:
    faults = StorageFaults(azurite.queue_endpoint)
    through = attrs.evolve(azurite, queue_endpoint=faults.endpoint)
    name = f"job-{uuid4().hex[:8]}"
    with faults.wire.serving(), ExitStack() as stack:

        def opened(job: str = name, **settings: Any) -> Queue:
            chosen = AzureSettings(
                connection_string=through.connection_string, **{"queue_poll_seconds": 0.1, **settings}
            )
            context = QueueContext(job_id="job", name=job, lease=LEASE)
            return stack.enter_context(Registry(only=["azure"]).queue("azure").open(chosen, context))

        yield Place(azurite, faults, opened, name)
        opened().delete()


@pytest.fixture
def queue(place: Place) -> Queue:
    queue = place.open()
    queue.create()
    return queue


def one(queue: Queue) -> Delivery:
    (found,) = queue.receive(1, wait=SOON)
    return found


def mine(place: Place) -> list[str]:
    return [each for each in place.azurite.queues() if place.name in each]


# Names


def test_a_name_that_is_being_deleted_is_not_waited_for(place: Place, queue: Queue) -> None:
    consumer = place.open()
    queue.send([b"old"])
    held = one(consumer)
    queue.delete()
    place.faults.fail("PUT", f"cloud-tasks-{place.name}", "QueueBeingDeleted", status=409)
    queue.create()
    assert mine(place) == [f"cloud-tasks-{place.name}-2"]
    queue.send([b"new"])
    # One that knew the former queue finds the latter by itself.
    assert one(consumer).body == b"new"
    assert list(consumer.ack([held.lease_id])) == [held.lease_id]


def test_a_queue_of_somebody_else_is_neither_used_nor_deleted(place: Place) -> None:
    service = place.service()
    theirs = f"cloud-tasks-{place.name}"
    service.create_queue(theirs)
    queue = place.open()
    assert not queue.exists()
    queue.create()
    assert mine(place) == [theirs, f"{theirs}-2"]
    queue.delete()
    assert mine(place) == [theirs]
    service.delete_queue(theirs)
    service.close()


def test_who_made_the_higher_of_two_gives_way(place: Place, queue: Queue) -> None:
    late = place.open()
    physical = f"cloud-tasks-{place.name}"
    # It sees no queue, and is told that the name is not free yet: meanwhile the other one got it.
    place.faults.fail("PUT", physical, "QueueBeingDeleted", status=409)
    queue.delete()
    unlisted = place.service()
    real_list = late._access.generations._listed  # type: ignore[attr-defined]
    answers: Iterator[list[int]] = iter([[]])

    def first_nothing() -> list[int]:
        for empty in answers:
            unlisted.create_queue(physical, metadata={"cloud_tasks_queue": place.name})
            return empty
        return real_list()  # type: ignore[no-any-return]

    late._access.generations._listed = first_nothing  # type: ignore[attr-defined]
    late.create()
    assert mine(place) == [physical]
    assert late._access.generations.current() == physical  # type: ignore[attr-defined]
    unlisted.close()


def test_a_queue_whose_name_begins_alike_is_another(place: Place, queue: Queue) -> None:
    other = place.open(f"{place.name}-2")
    assert not other.exists()
    other.create()
    other.send([b"theirs"])
    assert list(queue.receive(1, wait=timedelta(0))) == []
    queue.delete()
    assert one(other).body == b"theirs"
    other.delete()


# Large messages


def test_a_large_message_is_at_blob_storage_until_it_is_acknowledged(place: Place, queue: Queue) -> None:
    assert list(queue.send([LARGE, b"small"])) == []
    (blob,) = place.azurite.blobs()
    assert blob.startswith(f"cloud-tasks/cloud-tasks-{place.name}/")
    found = [one(queue), one(queue)]
    assert sorted(len(each.body) for each in found) == [5, len(LARGE)]
    assert place.azurite.blobs() == [blob]
    assert list(queue.ack([each.lease_id for each in found])) == []
    assert place.azurite.blobs() == []


@pytest.mark.parametrize("ending", ["purge", "delete"])
def test_the_blobs_go_with_the_messages_and_no_others(place: Place, queue: Queue, ending: str) -> None:
    other = place.open(f"{place.name}-events")
    other.create()
    other.send([LARGE])
    queue.send([LARGE, LARGE])
    assert len(place.azurite.blobs()) == 3
    getattr(queue, ending)()
    assert [f"{place.name}-events/" in each for each in place.azurite.blobs()] == [True]
    other.delete()
    assert place.azurite.blobs() == []


def test_a_large_message_without_its_blob_was_done_before(
    place: Place, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    queue.send([LARGE])
    consumer = place.open()
    first = one(consumer)
    consumer._blobs.remove(consumer._blobs.names())  # type: ignore[attr-defined]
    consumer.release([first.lease_id])
    assert list(queue.receive(1, wait=timedelta(0))) == []
    assert "not at Blob Storage any more" in caplog.text
    depth = queue.depth()
    assert (depth.visible, depth.in_flight) == (0, 0)


def test_a_message_does_not_choose_which_blob_is_read(place: Place, queue: Queue) -> None:
    service = place.service()
    service.get_queue_client(f"cloud-tasks-{place.name}").send_message("blob:another-queue/0123")
    with pytest.raises(ProviderError, match="not of this queue"):
        queue.receive(1, wait=timedelta(0))
    service.close()


def test_without_a_container_a_large_message_is_refused_alone(place: Place, queue: Queue) -> None:
    sender = place.open(oversize_container="")
    failures = sender.send([b"small", LARGE])
    assert [(each.index, each.transient) for each in failures] == [(1, False)]
    assert "azure.oversize_container" in failures[0].reason


# Leases


def test_a_lease_keeps_its_name_while_its_receipt_changes(place: Place, queue: Queue) -> None:
    queue.send([b"task"])
    lease = one(queue).lease_id
    for _ in range(3):
        assert list(queue.extend([lease], lease=LEASE)) == []
        place.azurite.advance(LEASE * 0.7)
    assert list(place.open().receive(1, wait=timedelta(0))) == []
    assert list(queue.ack([lease])) == []


def test_a_renewal_whose_answer_is_lost_is_a_lost_lease_and_the_message_comes_again(place: Place, queue: Queue) -> None:
    queue.send([b"task"])
    lease = one(queue).lease_id
    place.faults.fail("PUT", "/messages/[^/]+", "ServerBusy", status=503, after=True)
    assert list(queue.extend([lease], lease=LEASE)) == [lease]
    place.azurite.advance(LEASE * 1.5)
    assert one(queue).delivery_count == 2


def test_trouble_with_one_lease_does_not_keep_another_from_being_settled(place: Place, queue: Queue) -> None:
    queue.send([b"one", b"two", b"three"])
    leases = [one(queue).lease_id for _ in range(3)]
    place.faults.fail("DELETE", "/messages/[^/]+", "AuthorizationFailure", status=403)
    with pytest.raises(ProviderError, match="AuthorizationFailure"):
        queue.ack(leases)
    assert len(queue.ack(leases)) == 2
    assert queue.depth().visible == 0


# Calls


def test_a_throttled_call_is_made_again(place: Place, queue: Queue) -> None:
    place.faults.fail("POST", "/messages", "ServerBusy", status=503)
    assert list(queue.send([b"task"])) == []
    assert one(queue).body == b"task"


def test_a_waiting_consumer_looks_ever_less_often(place: Place, queue: Queue) -> None:
    consumer = place.open(queue_poll_seconds=60.0)
    assert list(consumer.receive(1, wait=timedelta(seconds=1))) == []
    # Pauses of 0.05, 0.1, 0.2, 0.4 and more, each shorter by a fifth at most.
    assert 4 <= place.faults.calls("GET", "/messages") <= 7


def test_more_than_one_call_brings_comes_at_once(place: Place, queue: Queue) -> None:
    queue.send([b"%d" % number for number in range(100)])
    assert len(queue.receive(100, wait=SOON)) == 100
    assert place.faults.calls("GET", "/messages") <= 5


def test_the_depth_tells_waiting_and_leased_messages_apart_where_they_are_few(queue: Queue) -> None:
    queue.send([b"%d" % number for number in range(5)])
    queue.receive(2, wait=SOON)
    depth = queue.depth()
    assert (depth.visible, depth.in_flight) == (3, 2)
    queue.send([b"more"] * 40)
    depth = queue.depth()
    assert (depth.visible, depth.in_flight) == (45, None)


def test_a_message_never_ends_by_its_age(place: Place, queue: Queue) -> None:
    queue.send([b"task"])
    place.azurite.advance(timedelta(days=30))
    assert one(queue).body == b"task"


def test_a_queue_that_was_deleted_by_others_is_not_found(place: Place, queue: Queue) -> None:
    place.open().delete()
    with pytest.raises(NotFoundError):
        queue.send([b"task"])
