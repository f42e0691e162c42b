"""Storage Queue beyond the contract: names, large messages, queues of others, lost responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import pytest
from azure.storage.queue import QueueServiceClient
from azurite import Azurite
from fake_server import Answer, FakeServer
from storage_faults import StorageFaults
from structlog.testing import capture_logs

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import Delivery, Queue, QueueContext
from cloud_tasks.registry import Registry
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.consumers.lease_extender import LeaseExtender
from cloud_tasks_azure.queue import account as account_module
from cloud_tasks_azure.settings import AzureSettings

LEASE = timedelta(seconds=60)
SOON = timedelta(seconds=20)
LARGE = b"x" * (100 * 1024)


@attrs.frozen
class StorageAccount:
    """A storage account with injected faults."""

    azurite: Azurite
    faults: StorageFaults
    open: Callable[..., Queue]
    name: str

    def service(self) -> QueueServiceClient:
        return QueueServiceClient.from_connection_string(self.azurite.connection_string)


@pytest.fixture
def account(azurite: Azurite, fast_retries: None) -> Iterator[StorageAccount]:
    faults = StorageFaults(azurite.queue_endpoint)
    through = attrs.evolve(azurite, queue_endpoint=faults.endpoint)
    name = f"job-{uuid4().hex[:8]}"
    with faults.server.serving(), ExitStack() as stack:

        def opened(job: str = name, *, job_id: str = "job", **settings: Any) -> Queue:
            chosen = AzureSettings(
                connection_string=through.connection_string, **{"queue_poll_seconds": 0.1, **settings}
            )
            context = QueueContext(job_id=job_id, name=job, lease=LEASE)
            return stack.enter_context(Registry(only=["azure"]).queue("azure").open(chosen, context))

        yield StorageAccount(azurite, faults, opened, name)
        opened().delete()


@pytest.fixture
def queue(account: StorageAccount) -> Queue:
    queue = account.open()
    queue.create()
    return queue


def one(queue: Queue) -> Delivery:
    (found,) = queue.receive(1, wait=SOON)
    return found


def mine(account: StorageAccount) -> list[str]:
    return [each for each in account.azurite.queues() if account.name in each]


# Names


def test_create_repeated_after_a_lost_response_succeeds(account: StorageAccount) -> None:
    queue = account.open()
    account.faults.fail("PUT", f"cloud-tasks-{account.name}", "InternalError", status=500, after=True)
    queue.create()
    account.open(job_id="another").create()
    queue.send([b"task"])
    queue.create()
    assert one(queue).body == b"task"
    assert mine(account) == [f"cloud-tasks-{account.name}"]


def test_create_of_a_name_that_is_being_deleted_says_what_to_do(account: StorageAccount, queue: Queue) -> None:
    queue.delete()
    with pytest.raises(ProviderError, match=r"QueueBeingDeleted.*half a minute") as raised:
        queue.create()
    assert raised.value.transient
    account.faults.deletion_seconds = 0
    queue.create()
    assert queue.exists()


def test_delete_of_a_queue_that_is_being_deleted_succeeds(account: StorageAccount, queue: Queue) -> None:
    account.faults.fail("DELETE", f"cloud-tasks-{account.name}", "QueueBeingDeleted", status=409)
    queue.delete()
    assert mine(account) == [f"cloud-tasks-{account.name}"]


def test_queue_of_others_is_neither_cleared_nor_deleted(account: StorageAccount) -> None:
    service = account.service()
    theirs = service.create_queue(f"cloud-tasks-{account.name}")
    theirs.send_message("theirs")
    queue = account.open()
    for method in (queue.create, queue.exists, queue.purge, queue.delete):
        with pytest.raises(ProviderError, match="not created by cloud-tasks"):
            method()
    assert [each.content for each in theirs.peek_messages()] == ["theirs"]
    service.delete_queue(theirs.queue_name)
    theirs.close()
    service.close()


def test_queues_with_common_prefix_are_separate(account: StorageAccount, queue: Queue) -> None:
    other = account.open(f"{account.name}-2")
    assert not other.exists()
    other.create()
    other.send([b"theirs"])
    assert list(queue.receive(1, wait=timedelta(0))) == []
    queue.delete()
    assert one(other).body == b"theirs"
    other.delete()


# Large messages


def test_large_message_is_stored_in_a_blob_until_acknowledged(account: StorageAccount, queue: Queue) -> None:
    assert list(queue.send([LARGE, b"small"])) == []
    (blob,) = account.azurite.blobs("cloud-tasks")
    assert blob.startswith(f"cloud-tasks/cloud-tasks-{account.name}/")
    found = [one(queue), one(queue)]
    assert sorted(len(each.body) for each in found) == [5, len(LARGE)]
    assert account.azurite.blobs("cloud-tasks") == [blob]
    assert list(queue.ack([each.lease_id for each in found])) == []
    assert account.azurite.blobs("cloud-tasks") == []


@pytest.mark.parametrize("ending", ["purge", "delete"])
def test_purge_and_delete_remove_only_own_blobs(account: StorageAccount, queue: Queue, ending: str) -> None:
    other = account.open(f"{account.name}-events")
    other.create()
    other.send([LARGE])
    queue.send([LARGE, LARGE])
    assert len(account.azurite.blobs("cloud-tasks")) == 3
    getattr(queue, ending)()
    assert [f"{account.name}-events/" in each for each in account.azurite.blobs("cloud-tasks")] == [True]
    other.delete()
    assert account.azurite.blobs("cloud-tasks") == []


def test_message_without_blob_is_a_finished_duplicate(account: StorageAccount, queue: Queue) -> None:
    queue.send([LARGE])
    consumer = account.open()
    first = one(consumer)
    consumer._store.remove(consumer._store.names())  # type: ignore[attr-defined]
    consumer.release([first.lease_id])
    with capture_logs() as lines:
        assert list(queue.receive(1, wait=timedelta(0))) == []
    assert ["without a stored body" in line["event"] for line in lines] == [True]
    depth = queue.depth()
    assert (depth.visible, depth.in_flight) == (0, 0)


def test_message_cannot_select_another_blob(account: StorageAccount, queue: Queue) -> None:
    forged = b"\0cloud-tasks-body:another-queue/0123"
    queue.send([forged])
    assert one(queue).body == forged


def test_send_without_container_refuses_only_large_messages(account: StorageAccount, queue: Queue) -> None:
    sender = account.open(oversize_container="")
    failures = sender.send([b"small", LARGE])
    assert [(each.index, each.transient) for each in failures] == [(1, False)]
    assert "azure.oversize_container" in failures[0].reason


# Leases


def test_leases_of_an_hour_long_task_take_few_requests(account: StorageAccount, queue: Queue) -> None:
    traits = Registry(only=["azure"]).queue("azure").traits
    queue.send([b"an hour"])
    delivery = one(queue)
    now = 0.0
    # As a worker does.
    longest = min(LEASE * 10, traits.max_lease) if traits.bills_requests else None
    extender = LeaseExtender(queue, LEASE, log=Log(verbose=False), longest=longest, clock=lambda: now)
    extender.hold([delivery.lease_id])
    lost: list[str] = []
    while now < 3600:
        now += 10
        account.azurite.advance(timedelta(seconds=10))
        extender.extend_due(lost.extend)
    extensions = [path for method, path in account.faults.server.calls if method == "PUT" and "/messages/" in path]
    assert len(extensions) <= 180 / 5
    assert lost == list(queue.ack([delivery.lease_id])) == []


def test_lease_id_is_stable_across_renewals(account: StorageAccount, queue: Queue) -> None:
    queue.send([b"task"])
    lease = one(queue).lease_id
    for _ in range(3):
        assert list(queue.extend([lease], lease=LEASE)) == []
        account.azurite.advance(LEASE * 0.7)
    assert list(account.open().receive(1, wait=timedelta(0))) == []
    assert list(queue.ack([lease])) == []


def test_extend_with_lost_response_is_a_lost_lease(account: StorageAccount, queue: Queue) -> None:
    queue.send([b"task"])
    lease = one(queue).lease_id
    account.faults.fail("PUT", "/messages/[^/]+", "ServerBusy", status=503, after=True)
    assert list(queue.extend([lease], lease=LEASE)) == [lease]
    account.azurite.advance(LEASE * 1.5)
    assert one(queue).delivery_count == 2


def test_ack_failure_does_not_affect_other_leases(account: StorageAccount, queue: Queue) -> None:
    queue.send([b"one", b"two", b"three"])
    leases = [one(queue).lease_id for _ in range(3)]
    account.faults.fail("DELETE", "/messages/[^/]+", "AuthorizationFailure", status=403)
    with pytest.raises(ProviderError, match="AuthorizationFailure"):
        queue.ack(leases)
    assert len(queue.ack(leases)) == 2
    assert queue.depth().visible == 0


# Calls


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ("<html>sign in</html>", {}, 200),
        ("<html>not found</html>", {}, 404),
        ("<?xml version='1.0'?><QueueMessagesList><", {"x-ms-request-id": "1"}, 200),
    ],
)
def test_answer_that_is_not_azures_is_a_transient_error(
    body: str, headers: dict[str, str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(account_module._RETRIES, "retry_total", 0)
    server = FakeServer()
    typed = {"Content-Type": "application/xml" if headers else "text/html", **headers}
    server.route("*", ".*", lambda request: Answer(status=status, body=body, headers=typed))
    address = Azurite(queue_endpoint=f"{server.url}/standin", blob_endpoint=f"{server.url}/standin", clock=Path())
    settings = AzureSettings(connection_string=address.connection_string)
    context = QueueContext(job_id="job", name="tasks", lease=LEASE)
    with server.serving(), Registry(only=["azure"]).queue("azure").open(settings, context) as queue:
        calls: tuple[Callable[[], object], ...] = (
            queue.create,
            queue.delete,
            queue.exists,
            queue.depth,
            lambda: queue.receive(1, wait=timedelta(0)),
            lambda: queue.send([b"task"]),
        )
        for call in calls:
            with pytest.raises(ProviderError) as caught:
                call()
            assert caught.value.transient


def test_send_retries_throttled_call(account: StorageAccount, queue: Queue) -> None:
    account.faults.fail("POST", "/messages", "ServerBusy", status=503)
    assert list(queue.send([b"task"])) == []
    assert one(queue).body == b"task"


def test_receive_polls_with_growing_pauses(account: StorageAccount, queue: Queue) -> None:
    consumer = account.open(queue_poll_seconds=60.0)
    assert list(consumer.receive(1, wait=timedelta(seconds=1))) == []
    # Pauses of 0.05, 0.1, 0.2, 0.4 s and more, each randomized down by at most a fifth.
    assert 4 <= account.faults.calls("GET", "/messages") <= 7


def test_receive_uses_concurrent_calls_for_large_batches(account: StorageAccount, queue: Queue) -> None:
    queue.send([b"%d" % number for number in range(100)])
    assert len(queue.receive(100, wait=SOON)) == 100
    assert account.faults.calls("GET", "/messages") <= 5


def test_depth_separates_visible_and_leased_below_32(queue: Queue) -> None:
    queue.send([b"%d" % number for number in range(5)])
    queue.receive(2, wait=SOON)
    depth = queue.depth()
    assert (depth.visible, depth.in_flight) == (3, 2)
    queue.send([b"more"] * 40)
    depth = queue.depth()
    assert (depth.visible, depth.in_flight) == (45, None)


def test_messages_do_not_expire(account: StorageAccount, queue: Queue) -> None:
    queue.send([b"task"])
    account.azurite.advance(timedelta(days=30))
    assert one(queue).body == b"task"


def test_send_to_deleted_queue_raises_not_found(account: StorageAccount, queue: Queue) -> None:
    account.open().delete()
    with pytest.raises(NotFoundError):
        queue.send([b"task"])
