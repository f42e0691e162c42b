"""The queue's own invariants over the wire; what every queue has to do is in test_queue_conformance.py."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any
from uuid import uuid4

import attrs
import boto3
import pytest
from moto.server import ThreadedMotoServer
from sqs_faults import SqsFaults
from sqs_standin import sqs_server

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import CheckContext, Delivery, Queue, QueueContext
from cloud_tasks.registry import Registry
from cloud_tasks_aws.queue.bodies import MESSAGE_BYTES
from cloud_tasks_aws.queue.opening import open_queue
from cloud_tasks_aws.settings import AwsSettings

BACKEND = Registry(only=["aws"]).queue("aws")
AT_ONCE = timedelta(0)
PATIENCE = timedelta(seconds=20)

Open = Callable[..., Queue]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with sqs_server() as address:
        yield address


@pytest.fixture
def proxy(address: str) -> Iterator[SqsFaults]:
    faults = SqsFaults(address)
    with faults.wire.serving():
        yield faults


@pytest.fixture
def settings(proxy: SqsFaults) -> AwsSettings:
    return AwsSettings(access_key="stand", secret_key="in", sqs_endpoint=proxy.url, queue_threads=4)


@pytest.fixture
def name() -> str:
    return f"own-{uuid4().hex[:12]}"


@pytest.fixture
def seat(settings: AwsSettings, name: str) -> Iterator[Open]:
    """Another process that uses the queue."""
    with ExitStack() as stack:

        def take(*, lease: float = 60.0, exactly_once: bool = False, **changed: Any) -> Queue:
            context = QueueContext(
                job_id="own", name=name, lease=timedelta(seconds=lease), region="us-east-1", exactly_once=exactly_once
            )
            return stack.enter_context(open_queue(attrs.evolve(settings, **changed), context, shortest_poll=0))

        yield take


@pytest.fixture
def queue(seat: Open) -> Iterator[Queue]:
    queue = seat()
    queue.create()
    yield queue
    queue.delete()


def receive_all(queue: Queue, count: int) -> list[Delivery]:
    deadline = time.monotonic() + PATIENCE.total_seconds()
    found: list[Delivery] = []
    while len(found) < count and time.monotonic() < deadline:
        found += queue.receive(count - len(found), wait=timedelta(seconds=1))
    return found


def leases(deliveries: list[Delivery]) -> list[str]:
    return [delivery.lease_id for delivery in deliveries]


def asked(proxy: SqsFaults, action: str) -> list[Any]:
    return [arguments for known, arguments in proxy.asked if known == action]


# What a queue is made like


def test_a_queue_is_encrypted_and_keeps_its_messages_as_long_as_it_can(queue: Queue, proxy: SqsFaults) -> None:
    (made,) = asked(proxy, "CreateQueue")
    assert made["Attributes"]["SqsManagedSseEnabled"] == "true"
    assert made["Attributes"]["MessageRetentionPeriod"] == str(14 * 24 * 3600)
    assert made["QueueName"].startswith("cloud-tasks-own-")
    assert made["tags"]["cloud-tasks-job"] == "own"


def test_the_prefix_of_the_names_is_a_setting(seat: Open, proxy: SqsFaults) -> None:
    other = seat(queue_prefix="team-a-")
    other.create()
    assert asked(proxy, "CreateQueue")[-1]["QueueName"].startswith("team-a-own-")
    assert not seat().exists()
    other.delete()


def test_nothing_is_left_of_a_queue_that_was_deleted_and_made_and_purged(
    queue: Queue, proxy: SqsFaults, address: str, name: str
) -> None:
    for _ in range(3):
        queue.purge()
        queue.delete()
        queue.create()
    queue.delete()
    client = boto3.client(
        "sqs", "us-east-1", endpoint_url=address, aws_access_key_id="stand", aws_secret_access_key="in"
    )
    assert client.list_queues(QueueNamePrefix=f"cloud-tasks-{name}").get("QueueUrls", []) == []
    client.close()


# Batches


def test_messages_are_sent_ten_at_a_time_many_at_once(queue: Queue, proxy: SqsFaults) -> None:
    assert list(queue.send([b"%d" % number for number in range(205)])) == []
    sizes = [len(arguments["Entries"]) for arguments in asked(proxy, "SendMessageBatch")]
    assert sorted(sizes) == [5, *[10] * 20]


def test_large_messages_do_not_share_a_call_that_would_be_too_large(queue: Queue, proxy: SqsFaults) -> None:
    assert list(queue.send([b"x" * 400_000] * 5)) == []
    assert sorted(len(arguments["Entries"]) for arguments in asked(proxy, "SendMessageBatch")) == [1, 2, 2]


def test_more_than_ten_are_received_and_settled_at_once(queue: Queue, proxy: SqsFaults) -> None:
    queue.send([b"%d" % number for number in range(95)])
    deliveries = receive_all(queue, 95)
    assert Counter(delivery.body for delivery in deliveries) == Counter(b"%d" % number for number in range(95))
    assert proxy.calls["ReceiveMessage"] < 20
    assert list(queue.extend(leases(deliveries), lease=timedelta(seconds=90))) == []
    assert list(queue.ack(leases(deliveries))) == []
    assert proxy.calls["ChangeMessageVisibilityBatch"] == proxy.calls["DeleteMessageBatch"] == 10


def test_no_more_are_received_than_asked_for(queue: Queue) -> None:
    queue.send([b"%d" % number for number in range(40)])
    assert len(queue.receive(3, wait=PATIENCE)) == 3
    assert len(queue.receive(14, wait=PATIENCE)) <= 14


def test_threads_share_a_queue_and_get_each_message_once_between_them(queue: Queue) -> None:
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


# Calls that go wrong


def test_an_entry_that_fails_in_passing_is_sent_again_alone(queue: Queue, proxy: SqsFaults) -> None:
    proxy.fail_entries("SendMessageBatch", "InternalError", sender=False)
    assert list(queue.send([b"one", b"two", b"three"])) == []
    assert sorted(delivery.body for delivery in receive_all(queue, 3)) == [b"one", b"three", b"two"]
    assert [len(arguments["Entries"]) for arguments in asked(proxy, "SendMessageBatch")] == [3, 1]


def test_an_entry_that_fails_for_good_is_told_with_its_place(queue: Queue, proxy: SqsFaults) -> None:
    proxy.fail_entries("SendMessageBatch", "InvalidMessageContents", sender=True)
    (failure,) = queue.send([b"one", b"two"])
    assert (failure.index, failure.transient) == (0, False)
    assert failure.reason == "InvalidMessageContents: as told"
    assert [delivery.body for delivery in receive_all(queue, 1)] == [b"two"]


def test_a_call_that_is_refused_fails_its_own_messages_only(queue: Queue, proxy: SqsFaults) -> None:
    proxy.refuse("SendMessageBatch", "AccessDeniedException", status=403)
    failures = queue.send([b"%d" % number for number in range(30)])
    assert len(failures) == 10
    assert all("AccessDenied" in failure.reason and not failure.transient for failure in failures)
    received = {delivery.body for delivery in receive_all(queue, 20)}
    assert received == {b"%d" % number for number in range(30)} - {b"%d" % failure.index for failure in failures}


def test_where_nothing_was_sent_the_reason_is_raised(queue: Queue, proxy: SqsFaults) -> None:
    proxy.refuse("SendMessageBatch", "AccessDeniedException", status=403, times=2)
    with pytest.raises(ProviderError, match=r"AccessDenied.*doctor --policy") as caught:
        queue.send([b"x"] * 20)
    assert not caught.value.transient


def test_a_throttled_call_is_made_again_by_the_sdk(queue: Queue, proxy: SqsFaults) -> None:
    proxy.refuse("SendMessageBatch", "RequestThrottled", times=2)
    assert list(queue.send([b"task"])) == []
    assert [delivery.body for delivery in receive_all(queue, 1)] == [b"task"]


def test_a_lost_answer_sends_once_where_the_queue_delivers_once(seat: Open, proxy: SqsFaults) -> None:
    queue = seat(exactly_once=True)
    queue.create()
    proxy.cut("SendMessageBatch")
    assert list(queue.send([b"task"])) == []
    assert proxy.calls["SendMessageBatch"] == 2
    assert [delivery.body for delivery in receive_all(queue, 1)] == [b"task"]
    assert list(queue.receive(10, wait=AT_ONCE)) == []
    queue.delete()


def test_what_is_sent_twice_on_purpose_is_two_messages(seat: Open) -> None:
    queue = seat(exactly_once=True)
    queue.create()
    queue.send([b"again"])
    queue.send([b"again"])
    assert len(receive_all(queue, 2)) == 2
    queue.delete()


def test_a_lease_that_sqs_does_not_know_is_lost_and_the_others_are_settled(queue: Queue, proxy: SqsFaults) -> None:
    queue.send([b"one", b"two", b"three"])
    held = leases(receive_all(queue, 3))
    proxy.fail_entries("DeleteMessageBatch", "ReceiptHandleIsInvalid", sender=True)
    (lost,) = queue.ack(held)
    assert lost in held
    # The others are done, and so is the lost one as far as this consumer goes.
    assert sorted(queue.ack(held)) == sorted(held)


def test_trouble_in_one_call_does_not_lose_what_another_settled(queue: Queue, proxy: SqsFaults) -> None:
    queue.send([b"%d" % number for number in range(20)])
    held = leases(receive_all(queue, 20))
    proxy.refuse("DeleteMessageBatch", "AccessDeniedException", status=403)
    with pytest.raises(ProviderError, match="acknowledging messages: AccessDenied"):
        queue.ack(held)
    # Ten were acked; the other ten are held still, and can be.
    assert len(queue.ack(held)) == 10


# Another takes the queue away


def test_a_consumer_follows_a_purge_that_another_made(queue: Queue, seat: Open) -> None:
    worker = seat()
    queue.send([b"old"])
    (old,) = receive_all(worker, 1)
    queue.purge()
    assert list(worker.send([b"new"])) == []
    assert [delivery.body for delivery in receive_all(worker, 1)] == [b"new"]
    assert list(worker.ack([old.lease_id])) == [old.lease_id]
    assert worker.depth().in_flight == 1


def test_a_consumer_of_a_queue_that_is_gone_is_told(queue: Queue, seat: Open) -> None:
    worker = seat()
    queue.send([b"task"])
    (held,) = receive_all(worker, 1)
    queue.delete()
    assert list(worker.extend([held.lease_id], lease=PATIENCE)) == [held.lease_id]
    with pytest.raises(NotFoundError):
        worker.receive(1, wait=AT_ONCE)
    with pytest.raises(NotFoundError):
        worker.send([b"x"])


def test_an_empty_answer_asks_all_servers(queue: Queue, settings: AwsSettings, name: str, proxy: SqsFaults) -> None:
    context = QueueContext(job_id="own", name=name, lease=timedelta(seconds=60), region="us-east-1")
    with BACKEND.open(settings, context) as as_users_have_it:
        assert list(as_users_have_it.receive(1, wait=AT_ONCE)) == []
    assert asked(proxy, "ReceiveMessage")[-1]["WaitTimeSeconds"] == 1


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
def large(seat: Open, s3: Any) -> Iterator[Queue]:
    queue = seat(oversize_location="s3://large/jobs", s3_endpoint=s3.meta.endpoint_url)
    queue.create()
    yield queue
    queue.delete()


def test_a_message_over_the_limit_travels_by_s3(large: Queue, s3: Any, name: str) -> None:
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


def test_purging_and_deleting_remove_the_objects(large: Queue, s3: Any) -> None:
    for remove in (large.purge, large.delete):
        large.create()
        large.send([b"x" * (MESSAGE_BYTES + 1)] * 2)
        assert len(keys(s3)) == 2
        remove()
        assert keys(s3) == []


def test_a_message_whose_object_is_gone_was_done_by_another(
    large: Queue, s3: Any, caplog: pytest.LogCaptureFixture
) -> None:
    large.send([b"x" * (MESSAGE_BYTES + 1)])
    (key,) = keys(s3)
    s3.delete_object(Bucket="large", Key=key)
    assert list(large.receive(1, wait=timedelta(seconds=1))) == []
    assert key in caplog.text
    assert large.depth().visible == large.depth().in_flight == 0


def test_a_message_chooses_no_object_of_somebody_else(large: Queue, s3: Any, proxy: SqsFaults, address: str) -> None:
    s3.put_object(Bucket="large", Key="private", Body=b"private")
    large.send([b"first"])
    url = asked(proxy, "SendMessageBatch")[-1]["QueueUrl"]
    client = boto3.client(
        "sqs", "us-east-1", endpoint_url=address, aws_access_key_id="stand", aws_secret_access_key="in"
    )
    form = {"cloud-tasks-form": {"DataType": "String", "StringValue": "s3"}}
    client.send_message(QueueUrl=url, MessageBody="private", MessageAttributes=form)
    client.close()
    assert [delivery.body for delivery in large.receive(10, wait=PATIENCE)] == [b"first"]
    assert s3.get_object(Bucket="large", Key="private")["Body"].read() == b"private"
    s3.delete_object(Bucket="large", Key="private")


def test_a_missing_bucket_is_a_mistake_and_loses_nothing(large: Queue, seat: Open, s3: Any) -> None:
    large.send([b"x" * (MESSAGE_BYTES + 1)])
    elsewhere = seat(oversize_location="s3://nowhere/jobs", s3_endpoint=s3.meta.endpoint_url, lease=1.0)
    with pytest.raises(ProviderError, match=r"NoSuchBucket.*aws\.oversize_location") as caught:
        elsewhere.receive(1, wait=PATIENCE)
    assert not isinstance(caught.value, NotFoundError)
    (failure,) = elsewhere.send([b"x" * (MESSAGE_BYTES + 1)])
    assert "NoSuchBucket" in failure.reason
    assert len(receive_all(large, 1)) == 1


def test_a_consumer_without_the_bucket_says_what_it_needs(large: Queue, seat: Open) -> None:
    large.send([b"x" * (MESSAGE_BYTES + 1)])
    with pytest.raises(ProviderError, match=r"refers to S3.*oversize_location"):
        seat().receive(1, wait=PATIENCE)


def test_without_a_bucket_the_limit_is_told(queue: Queue) -> None:
    (failure,) = queue.send([b"x" * (MESSAGE_BYTES + 1)])
    assert not failure.transient
    assert "aws.oversize_location" in failure.reason


# Doctor


def test_the_check_finds_queues_and_bucket(settings: AwsSettings, s3: Any) -> None:
    assert BACKEND.check is not None
    with_bucket = attrs.evolve(settings, oversize_location="s3://large/jobs", s3_endpoint=s3.meta.endpoint_url)
    findings = list(BACKEND.check(with_bucket, CheckContext(region="us-east-1")))
    assert [(finding.ok, finding.subject) for finding in findings] == [
        (True, "SQS"),
        (True, "bucket for large messages"),
    ]


def test_the_check_tells_what_is_missing(settings: AwsSettings, s3: Any, proxy: SqsFaults) -> None:
    assert BACKEND.check is not None
    without = attrs.evolve(settings, oversize_location="s3://nowhere", s3_endpoint=s3.meta.endpoint_url)
    assert [finding.ok for finding in BACKEND.check(without, CheckContext(region="us-east-1"))] == [True, False]
    proxy.refuse("ListQueues", "AccessDeniedException", status=403)
    (denied,) = BACKEND.check(settings, CheckContext(region="us-east-1"))
    assert not denied.ok
    assert denied.remedy == "see which permissions are needed: cloud-tasks doctor --policy"
