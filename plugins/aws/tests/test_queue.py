"""Invariants of the SQS queue over HTTP; the queue contract is in test_queue_conformance.py."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import Any
from uuid import uuid4

import attrs
import boto3
import pytest
from moto.server import ThreadedMotoServer
from sqs_emulator import sqs_server
from sqs_faults import SqsFaults
from structlog.testing import capture_logs

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import CheckContext, Delivery, Queue, QueueContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import eventually
from cloud_tasks_aws.queue.bodies import MESSAGE_BYTES
from cloud_tasks_aws.queue.factory import open_queue
from cloud_tasks_aws.settings import AwsSettings

BACKEND = Registry(only=["aws"]).queue("aws")
NO_WAIT = timedelta(0)
TIMEOUT = timedelta(seconds=20)

Open = Callable[..., Queue]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with sqs_server() as address:
        yield address


@pytest.fixture
def proxy(address: str) -> Iterator[SqsFaults]:
    faults = SqsFaults(address)
    with faults.server.serving():
        yield faults


@pytest.fixture
def settings(proxy: SqsFaults) -> AwsSettings:
    return AwsSettings(access_key="stand", secret_key="in", sqs_endpoint=proxy.url, queue_threads=4)


@pytest.fixture
def name() -> str:
    return f"own-{uuid4().hex[:12]}"


@pytest.fixture
def open_process(settings: AwsSettings, name: str) -> Iterator[Open]:
    """Opens the queue as another process would."""
    with ExitStack() as stack:

        def opened(*, lease: float = 60.0, exactly_once: bool = False, **changed: Any) -> Queue:
            context = QueueContext(
                job_id="own", name=name, lease=timedelta(seconds=lease), region="us-east-1", exactly_once=exactly_once
            )
            none = timedelta(0)
            chosen = attrs.evolve(settings, **changed)
            return stack.enter_context(open_queue(chosen, context, min_poll=none, purge_time=none))

        yield opened


@pytest.fixture
def queue(open_process: Open) -> Iterator[Queue]:
    queue = open_process()
    queue.create()
    yield queue
    queue.delete()


def receive_all(queue: Queue, count: int) -> list[Delivery]:
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    found: list[Delivery] = []
    while len(found) < count and time.monotonic() < deadline:
        found += queue.receive(count - len(found), wait=timedelta(seconds=1))
    return found


def leases(deliveries: list[Delivery]) -> list[str]:
    return [delivery.lease_id for delivery in deliveries]


def requests_of(proxy: SqsFaults, action: str) -> list[Any]:
    return [arguments for known, arguments in proxy.requests if known == action]


# Creation


def test_create_sets_encryption_retention_and_tags(queue: Queue, proxy: SqsFaults) -> None:
    (created,) = requests_of(proxy, "CreateQueue")
    assert created["Attributes"]["SqsManagedSseEnabled"] == "true"
    assert created["Attributes"]["MessageRetentionPeriod"] == str(14 * 24 * 3600)
    assert created["QueueName"].startswith("cloud-tasks-own-")
    assert created["tags"]["cloud-tasks-job"] == "own"


def test_queue_prefix_is_configurable(open_process: Open, proxy: SqsFaults) -> None:
    other = open_process(queue_prefix="team-a-")
    other.create()
    assert requests_of(proxy, "CreateQueue")[-1]["QueueName"].startswith("team-a-own-")
    assert not open_process().exists()
    other.delete()


# Batches


def test_send_batches_ten_messages_per_call(queue: Queue, proxy: SqsFaults) -> None:
    assert list(queue.send([b"%d" % number for number in range(205)])) == []
    sizes = [len(arguments["Entries"]) for arguments in requests_of(proxy, "SendMessageBatch")]
    assert sorted(sizes) == [5, *[10] * 20]


def test_send_limits_batch_bytes(queue: Queue, proxy: SqsFaults) -> None:
    assert list(queue.send([b"x" * 400_000] * 5)) == []
    assert sorted(len(arguments["Entries"]) for arguments in requests_of(proxy, "SendMessageBatch")) == [1, 2, 2]


def test_receive_and_settle_batch_many_messages(queue: Queue, proxy: SqsFaults) -> None:
    queue.send([b"%d" % number for number in range(95)])
    deliveries = receive_all(queue, 95)
    assert Counter(delivery.body for delivery in deliveries) == Counter(b"%d" % number for number in range(95))
    assert proxy.calls["ReceiveMessage"] < 20
    assert list(queue.extend(leases(deliveries), lease=timedelta(seconds=90))) == []
    assert list(queue.ack(leases(deliveries))) == []
    assert proxy.calls["ChangeMessageVisibilityBatch"] == proxy.calls["DeleteMessageBatch"] == 10


def test_receive_returns_at_most_max_messages(queue: Queue) -> None:
    queue.send([b"%d" % number for number in range(40)])
    assert len(queue.receive(3, wait=TIMEOUT)) == 3
    assert len(queue.receive(14, wait=TIMEOUT)) <= 14


def test_concurrent_consumers_receive_each_message_once(queue: Queue) -> None:
    queue.send([b"%d" % number for number in range(300)])
    received: list[bytes] = []

    def consume() -> None:
        while deliveries := queue.receive(20, wait=timedelta(seconds=1)):
            received.extend(delivery.body for delivery in deliveries)
            assert list(queue.ack(leases(list(deliveries)))) == []

    threads = [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(received) == Counter(b"%d" % number for number in range(300))


# Failed calls


def test_send_retries_only_the_transient_entry(queue: Queue, proxy: SqsFaults) -> None:
    proxy.fail_entries("SendMessageBatch", "InternalError", sender=False)
    assert list(queue.send([b"one", b"two", b"three"])) == []
    assert sorted(delivery.body for delivery in receive_all(queue, 3)) == [b"one", b"three", b"two"]
    assert [len(arguments["Entries"]) for arguments in requests_of(proxy, "SendMessageBatch")] == [3, 1]


def test_send_reports_permanent_failure_with_index(queue: Queue, proxy: SqsFaults) -> None:
    proxy.fail_entries("SendMessageBatch", "InvalidMessageContents", sender=True)
    (failure,) = queue.send([b"one", b"two"])
    assert (failure.index, failure.transient) == (0, False)
    assert failure.reason == "InvalidMessageContents: injected"
    assert [delivery.body for delivery in receive_all(queue, 1)] == [b"two"]


def test_send_failed_call_affects_only_its_messages(queue: Queue, proxy: SqsFaults) -> None:
    proxy.refuse("SendMessageBatch", "AccessDeniedException", status=403)
    failures = queue.send([b"%d" % number for number in range(30)])
    assert len(failures) == 10
    assert all("AccessDenied" in failure.reason and not failure.transient for failure in failures)
    received = {delivery.body for delivery in receive_all(queue, 20)}
    assert received == {b"%d" % number for number in range(30)} - {b"%d" % failure.index for failure in failures}


def test_send_raises_when_every_call_fails(queue: Queue, proxy: SqsFaults) -> None:
    proxy.refuse("SendMessageBatch", "AccessDeniedException", status=403, times=2)
    with pytest.raises(ProviderError, match=r"AccessDenied.*doctor --policy") as caught:
        queue.send([b"x"] * 20)
    assert not caught.value.transient


def test_send_retries_throttled_call(queue: Queue, proxy: SqsFaults) -> None:
    proxy.refuse("SendMessageBatch", "RequestThrottled", times=2)
    assert list(queue.send([b"task"])) == []
    assert [delivery.body for delivery in receive_all(queue, 1)] == [b"task"]


def test_fifo_send_with_lost_response_sends_once(open_process: Open, proxy: SqsFaults) -> None:
    queue = open_process(exactly_once=True)
    queue.create()
    proxy.cut("SendMessageBatch")
    assert list(queue.send([b"task"])) == []
    assert proxy.calls["SendMessageBatch"] == 2
    assert [delivery.body for delivery in receive_all(queue, 1)] == [b"task"]
    assert list(queue.receive(10, wait=NO_WAIT)) == []
    queue.delete()


def test_fifo_deliberate_resend_is_two_messages(open_process: Open) -> None:
    queue = open_process(exactly_once=True)
    queue.create()
    queue.send([b"again"])
    queue.send([b"again"])
    assert len(receive_all(queue, 2)) == 2
    queue.delete()


def test_ack_of_unknown_receipt_is_lost_alone(queue: Queue, proxy: SqsFaults) -> None:
    queue.send([b"one", b"two", b"three"])
    held = leases(receive_all(queue, 3))
    proxy.fail_entries("DeleteMessageBatch", "ReceiptHandleIsInvalid", sender=True)
    (lost,) = queue.ack(held)
    assert lost in held
    # All leases are settled or lost for this consumer.
    assert sorted(queue.ack(held)) == sorted(held)


def test_ack_failed_call_does_not_affect_other_calls(queue: Queue, proxy: SqsFaults) -> None:
    queue.send([b"%d" % number for number in range(20)])
    held = leases(receive_all(queue, 20))
    proxy.refuse("DeleteMessageBatch", "AccessDeniedException", status=403)
    with pytest.raises(ProviderError, match="acknowledging messages: AccessDenied"):
        queue.ack(held)
    # Ten were acknowledged; the other ten are still held.
    assert len(queue.ack(held)) == 10


# Changes by another process


def test_purge_ends_the_leases_of_all_processes(queue: Queue, open_process: Open) -> None:
    worker = open_process()
    queue.send([b"old"] * 2)
    (own,), (other,) = receive_all(queue, 1), receive_all(worker, 1)
    queue.purge()
    assert list(queue.ack([own.lease_id])) == [own.lease_id]
    assert list(worker.send([b"new"])) == []
    assert list(worker.extend([other.lease_id], lease=TIMEOUT)) == [other.lease_id]
    assert [delivery.body for delivery in receive_all(worker, 1)] == [b"new"]


def test_purge_waits_until_sqs_deletes_no_more_messages(queue: Queue, settings: AwsSettings, name: str) -> None:
    context = QueueContext(job_id="own", name=name, lease=timedelta(seconds=60), region="us-east-1")
    with (
        capture_logs() as lines,
        open_queue(settings, context, purge_time=timedelta(hours=1)) as patient,
        ThreadPoolExecutor(1) as threads,
    ):
        purged = threads.submit(patient.purge)
        eventually(lambda: len(lines) > 0, patience=TIMEOUT)
        assert not purged.done()
        # A controller that ends does not wait.
        patient.close()
        purged.result(timeout=TIMEOUT.total_seconds())


def test_consumer_of_deleted_queue_gets_not_found(queue: Queue, open_process: Open) -> None:
    worker = open_process()
    queue.send([b"task"])
    (held,) = receive_all(worker, 1)
    queue.delete()
    assert list(worker.extend([held.lease_id], lease=TIMEOUT)) == [held.lease_id]
    with pytest.raises(NotFoundError):
        worker.receive(1, wait=NO_WAIT)
    with pytest.raises(NotFoundError):
        worker.send([b"x"])


def test_empty_receive_queries_all_servers(queue: Queue, settings: AwsSettings, name: str, proxy: SqsFaults) -> None:
    context = QueueContext(job_id="own", name=name, lease=timedelta(seconds=60), region="us-east-1")
    with BACKEND.open(settings, context) as default_queue:
        assert list(default_queue.receive(1, wait=NO_WAIT)) == []
    assert requests_of(proxy, "ReceiveMessage")[-1]["WaitTimeSeconds"] == 1


# Messages over the limit


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3", "us-east-1", endpoint_url=f"http://{host}:{port}", aws_access_key_id="stand", aws_secret_access_key="in"
    )
    client.create_bucket(Bucket="large")
    yield client
    client.close()
    server.stop()


def keys(s3: Any) -> list[str]:
    return [found["Key"] for found in s3.list_objects_v2(Bucket="large").get("Contents", ())]


@pytest.fixture
def large(open_process: Open, s3: Any) -> Iterator[Queue]:
    queue = open_process(oversize_location="s3://large/jobs", s3_endpoint=s3.meta.endpoint_url)
    queue.create()
    yield queue
    queue.delete()


def test_large_message_is_stored_in_s3(large: Queue, s3: Any, name: str) -> None:
    text, binary = b"x" * (MESSAGE_BYTES + 1), os.urandom(MESSAGE_BYTES)
    assert list(large.send([text, b"small", binary])) == []
    assert len(keys(s3)) == 2
    assert all(key.startswith(f"jobs/{name}/") for key in keys(s3))
    deliveries = receive_all(large, 3)
    assert {delivery.body for delivery in deliveries} == {text, b"small", binary}
    assert list(large.release(leases(deliveries))) == []
    assert len(keys(s3)) == 2
    assert list(large.ack(leases(receive_all(large, 3)))) == []
    assert keys(s3) == []


def test_purge_and_delete_remove_objects(large: Queue, s3: Any) -> None:
    for remove in (large.purge, large.delete):
        large.create()
        large.send([b"x" * (MESSAGE_BYTES + 1)] * 2)
        assert len(keys(s3)) == 2
        remove()
        assert keys(s3) == []


def test_message_without_object_is_a_finished_duplicate(large: Queue, s3: Any) -> None:
    large.send([b"x" * (MESSAGE_BYTES + 1)])
    (key,) = keys(s3)
    s3.delete_object(Bucket="large", Key=key)
    with capture_logs() as lines:
        assert list(large.receive(1, wait=timedelta(seconds=1))) == []
    assert [key.rpartition("/")[2] in line["event"] for line in lines] == [True]
    assert large.depth().visible == large.depth().in_flight == 0


def test_message_cannot_select_another_object(large: Queue, s3: Any) -> None:
    s3.put_object(Bucket="large", Key="private", Body=b"private")
    forged = b"\0cloud-tasks-body:../../private"
    large.send([forged])
    assert [delivery.body for delivery in large.receive(10, wait=TIMEOUT)] == [forged]
    assert s3.get_object(Bucket="large", Key="private")["Body"].read() == b"private"
    s3.delete_object(Bucket="large", Key="private")


def test_missing_bucket_raises_and_loses_no_message(large: Queue, open_process: Open, s3: Any) -> None:
    large.send([b"x" * (MESSAGE_BYTES + 1)])
    misconfigured = open_process(oversize_location="s3://nowhere/jobs", s3_endpoint=s3.meta.endpoint_url, lease=1.0)
    with pytest.raises(ProviderError, match=r"NoSuchBucket.*aws\.oversize_location") as caught:
        misconfigured.receive(1, wait=TIMEOUT)
    assert not isinstance(caught.value, NotFoundError)
    (failure,) = misconfigured.send([b"x" * (MESSAGE_BYTES + 1)])
    assert "NoSuchBucket" in failure.reason
    assert len(receive_all(large, 1)) == 1


def test_consumer_without_bucket_names_the_setting(large: Queue, open_process: Open) -> None:
    large.send([b"x" * (MESSAGE_BYTES + 1)])
    with pytest.raises(ProviderError, match=r"stored elsewhere.*aws\.oversize_location"):
        open_process().receive(1, wait=TIMEOUT)


def test_send_without_bucket_reports_the_limit(queue: Queue) -> None:
    (failure,) = queue.send([b"x" * (MESSAGE_BYTES + 1)])
    assert not failure.transient
    assert "aws.oversize_location" in failure.reason


# Doctor


def test_doctor_checks_queues_and_bucket(settings: AwsSettings, s3: Any) -> None:
    assert BACKEND.check is not None
    with_bucket = attrs.evolve(settings, oversize_location="s3://large/jobs", s3_endpoint=s3.meta.endpoint_url)
    findings = list(BACKEND.check(with_bucket, CheckContext(region="us-east-1")))
    assert [(finding.ok, finding.subject) for finding in findings] == [
        (True, "SQS"),
        (True, "bucket for large messages"),
    ]


def test_doctor_reports_missing_bucket_and_permission(settings: AwsSettings, s3: Any, proxy: SqsFaults) -> None:
    assert BACKEND.check is not None
    without = attrs.evolve(settings, oversize_location="s3://nowhere", s3_endpoint=s3.meta.endpoint_url)
    assert [finding.ok for finding in BACKEND.check(without, CheckContext(region="us-east-1"))] == [True, False]
    proxy.refuse("GetQueueUrl", "AccessDeniedException", status=403)
    (denied,) = BACKEND.check(settings, CheckContext(region="us-east-1"))
    assert not denied.ok
    assert denied.remedy == "show the required permissions with: cloud-tasks doctor --policy"
