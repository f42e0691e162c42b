"""The SQS queue backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import Delivery, Depth, SendFailure
from cloud_tasks_aws.queue.access import Access
from cloud_tasks_aws.queue.batch_ack import Settler, whole_seconds
from cloud_tasks_aws.queue.generations import Generations
from cloud_tasks_aws.queue.leases import LeaseTable, since_boot
from cloud_tasks_aws.queue.oversize import ObjectStore
from cloud_tasks_aws.queue.parallel import Threads
from cloud_tasks_aws.queue.receiving import MIN_POLL_SECONDS, Receiver
from cloud_tasks_aws.queue.sending import Sender
from cloud_tasks_aws.traits import QUEUE_TRAITS as TRAITS

__all__ = ["SqsQueue"]

_DEPTHS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")


class SqsQueue:
    """`Queue` on SQS. Thread-safe.

    Args:
        client: A boto3 client of SQS.
        generations: Generations of the queue.
        lease: First lease of a received message.
        threads: Pool shared by all calls.
        objects: Store of bodies over the size limit; None: they are refused.
        min_poll_seconds: Minimum seconds of a receive call without messages.
        clock: Monotonic time in seconds, by which leases end.
    """

    def __init__(
        self,
        client: Any,
        generations: Generations,
        *,
        lease: timedelta,
        threads: Threads,
        objects: ObjectStore | None = None,
        min_poll_seconds: int = MIN_POLL_SECONDS,
        clock: Callable[[], float] = since_boot,
    ) -> None:
        self._access = access = Access(client=client, generations=generations)
        self._threads = threads
        self._objects = objects
        leases = LeaseTable(clock)
        seconds = whole_seconds(min(lease, TRAITS.max_lease))
        self._sender = Sender(access, threads, objects)
        self._receiver = Receiver(access, threads, leases, objects, lease=seconds, min_poll_seconds=min_poll_seconds)
        self._settler = Settler(access, threads, leases, objects)

    def create(self) -> None:
        self._access.generations.create()

    def delete(self) -> None:
        self._access.generations.delete()
        if self._objects is not None:
            self._objects.remove(self._objects.keys())

    def purge(self) -> None:
        # Listed first: a message sent after the purge may already have its object.
        keys = self._objects.keys() if self._objects is not None else []
        self._access.generations.replace()
        if self._objects is not None:
            self._objects.remove(keys)

    def exists(self) -> bool:
        return self._access.generations.exists()

    def depth(self) -> Depth:
        """Return the depth; ``in_flight`` includes delayed messages, so that the sum is the whole queue."""

        def read(url: str) -> Mapping[str, str]:
            response = self._access.client.get_queue_attributes(QueueUrl=url, AttributeNames=list(_DEPTHS))
            attributes: Mapping[str, str] = response.get("Attributes") or {}
            return attributes

        found = self._access.call("reading the depth of the queue", read)
        if not found.keys() >= set(_DEPTHS):
            raise ProviderError("reading the depth of the queue: SQS returned no depth", transient=True)
        visible, hidden, delayed = (int(found[name]) for name in _DEPTHS)
        return Depth(visible=visible, in_flight=hidden + delayed, exact=False, as_of=datetime.now(UTC))

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        return self._sender.send(bodies, delay=delay)

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        return self._receiver.receive(max_messages, wait=wait)

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        return self._settler.ack(lease_ids)

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        return self._settler.release(lease_ids, delay=delay)

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        return self._settler.extend(lease_ids, lease=lease)

    def close(self) -> None:
        self._threads.close()
        self._access.client.close()
