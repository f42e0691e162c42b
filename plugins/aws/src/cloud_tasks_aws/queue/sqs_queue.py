"""The SQS queue backend.

Invariants, each with a test:

1. An empty result of `receive` means that all SQS servers were queried.
2. Every message has its own deduplication id: a repeated request creates one message, a deliberate resend another.
3. SQS is not called for an expired lease: it accepts an expired receipt handle without an error ("DeleteMessage",
   Amazon SQS API Reference), and may then delete a message that another consumer holds.
4. `purge` returns when SQS deletes no more messages: what is sent afterwards is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import structlog

from cloud_tasks.plugin import Depth
from cloud_tasks.plugin.kit import BatchedQueue, Held, Received, Refused, RequestLimits, since_boot
from cloud_tasks_aws.errors import is_transient_code
from cloud_tasks_aws.queue.bodies import BATCH_BYTES, Encoded, decode, encode, encoding_of
from cloud_tasks_aws.queue.named_queue import NamedQueue, is_fifo
from cloud_tasks_aws.responses import InvalidResponseError
from cloud_tasks_aws.traits import QUEUE_TRAITS as TRAITS

__all__ = ["MIN_POLL", "PURGE_TIME", "SqsQueue"]

log = structlog.get_logger()

MIN_POLL = timedelta(seconds=1)
"""A long poll queries all SQS servers; a poll of zero seconds queries a sample and may miss messages."""
PURGE_TIME = timedelta(seconds=60)
"""Time within which SQS deletes the messages of a purged queue, and perhaps later ones ("PurgeQueue", as below)."""
_MAX_POLL_SECONDS = 20
"""Seconds; "ReceiveMessage", Amazon SQS API Reference."""
_PAUSE = 0.1
_DEPTHS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
_Entry = Mapping[str, Any]


class SqsQueue(BatchedQueue[str]):
    """`Queue` on SQS; a lease is a receipt handle. Thread-safe.

    Args:
        client: A boto3 client of SQS.
        queue: The queue.
        lease: First lease of a received message.
        threads: Maximum number of parallel requests.
        min_poll: Minimum wait of a receive call without messages.
        purge_time: Wait after the request of a purge.
        clock: Monotonic time in seconds, by which leases end.
    """

    def __init__(
        self,
        client: Any,
        queue: NamedQueue,
        *,
        lease: timedelta,
        threads: int,
        min_poll: timedelta = MIN_POLL,
        purge_time: timedelta = PURGE_TIME,
        clock: Callable[[], float] = since_boot,
    ) -> None:
        limits = RequestLimits(send=10, receive=10, settle=10, send_bytes=BATCH_BYTES, min_wait=min_poll)
        super().__init__(TRAITS, limits, lease=lease, threads=threads, name="cloud-tasks-sqs", clock=clock)
        self._client = client
        self._queue = queue
        self._purge_time = purge_time

    def create(self) -> None:
        self._queue.create()

    def delete(self) -> None:
        self._queue.delete()
        self._forget_leases()

    def purge(self) -> None:
        self._queue.purge()
        self._forget_leases()
        if self._purge_time:
            log.info("Waiting a minute, in which SQS may delete new messages, too")
            self._closed.wait(self._purge_time.total_seconds())

    def exists(self) -> bool:
        return self._queue.exists()

    def depth(self) -> Depth:
        """Return the depth; ``in_flight`` includes delayed messages, so that the sum is the whole queue."""

        def read(url: str) -> list[int]:
            found = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=list(_DEPTHS))["Attributes"]
            return [int(found[name]) for name in _DEPTHS]

        visible, hidden, delayed = self._queue.call("reading the depth of the queue", read)
        return Depth(visible=visible, in_flight=hidden + delayed, exact=False, as_of=datetime.now(UTC))

    def close(self) -> None:
        super().close()
        self._client.close()

    # Requests

    def _encode(self, body: bytes) -> Encoded:
        return encode(body)

    def _size(self, message: Encoded) -> int:
        return message.size

    def _send(self, messages: Sequence[Encoded], delay: timedelta) -> Mapping[int, Refused]:
        def entry(message: Encoded, fifo: bool) -> _Entry:
            result: dict[str, Any] = {"MessageBody": message.text}
            if message.attributes:
                result["MessageAttributes"] = message.attributes
            if fifo:
                # FIFO queues have no delay of single messages.
                result |= {"MessageGroupId": message.unique, "MessageDeduplicationId": message.unique}
            elif delay:
                result["DelaySeconds"] = round(delay.total_seconds())
            return result

        def send(url: str) -> Mapping[int, Refused]:
            entries = [entry(message, is_fifo(url)) for message in messages]
            return _refused(self._client.send_message_batch, url, entries)

        return self._queue.call("sending to the queue", send)

    def _receive(self, count: int, wait: timedelta) -> Sequence[Received[str]]:
        poll = min(_MAX_POLL_SECONDS, round(wait.total_seconds()))

        def receive(url: str) -> list[Received[str]]:
            # With an attempt id a repeated request returns the same messages, not the next ones.
            extra = {"ReceiveRequestAttemptId": uuid4().hex} if is_fifo(url) else {}
            response = self._client.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=count,
                WaitTimeSeconds=poll,
                VisibilityTimeout=round(self._lease.total_seconds()),
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
                MessageAttributeNames=["All"],
                **extra,
            )
            return [_received(message) for message in response.get("Messages") or ()]

        return self._queue.call("receiving from the queue", receive)

    def _pause(self, left: float) -> None:
        if left < 1:
            # SQS counts whole seconds; another poll would exceed the deadline.
            time.sleep(min(left, _PAUSE))

    def _ack(self, held: Sequence[Held[str]]) -> Mapping[int, Refused]:
        entries: list[_Entry] = [{} for _ in held]
        return self._settle_batch("acknowledging", self._client.delete_message_batch, held, entries)

    def _change(self, held: Sequence[Held[str]], leases: Sequence[timedelta]) -> Mapping[int, Refused]:
        entries = [{"VisibilityTimeout": round(lease.total_seconds())} for lease in leases]
        return self._settle_batch("extending", self._client.change_message_visibility_batch, held, entries)

    def _settle_batch(
        self, action: str, call: Callable[..., Any], held: Sequence[Held[str]], entries: Sequence[_Entry]
    ) -> Mapping[int, Refused]:
        chosen = [{"ReceiptHandle": each.payload, **entry} for each, entry in zip(held, entries, strict=True)]
        return self._queue.call(f"{action} messages", lambda url: _refused(call, url, chosen))


def _received(message: Mapping[str, Any]) -> Received[str]:
    return Received(
        body=decode(message["Body"], encoding_of(message)),
        payload=message["ReceiptHandle"],
        delivery_count=int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
    )


def _refused(call: Callable[..., Mapping[str, Any]], url: str, entries: Sequence[_Entry]) -> dict[int, Refused]:
    """Make a batch request and return the entries without success; one that the response lacks may have succeeded."""
    response, problem = dict[str, Any](), "no result for this entry in the response"
    try:
        response = {**call(QueueUrl=url, Entries=[{"Id": str(number), **each} for number, each in enumerate(entries)])}
    except InvalidResponseError as error:
        problem = str(error)
    done = {each["Id"] for each in response.get("Successful") or ()}
    reported = {each["Id"]: each for each in response.get("Failed") or ()}
    unknown = {"Code": "NoAnswer", "Message": problem}
    failed = {index: reported.get(str(index), unknown) for index in range(len(entries)) if str(index) not in done}
    return {index: _why(entry) for index, entry in failed.items()}


def _why(entry: _Entry) -> Refused:
    code = str(entry.get("Code", "Unknown")).removeprefix("AWS.SimpleQueueService.")
    transient = not entry.get("SenderFault", False) or is_transient_code(code)
    return Refused(f"{code}: {entry.get('Message') or ''}".rstrip(": "), transient)
