"""The queue itself, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import Delivery, Depth, SendFailure
from cloud_tasks_aws.queue.access import Access
from cloud_tasks_aws.queue.generations import Generations
from cloud_tasks_aws.queue.leases import LeaseBook, since_boot
from cloud_tasks_aws.queue.oversize import ObjectStore
from cloud_tasks_aws.queue.parallel import Threads
from cloud_tasks_aws.queue.receiving import SHORTEST_POLL, Receiver
from cloud_tasks_aws.queue.sending import Sender
from cloud_tasks_aws.queue.settling import Settler, whole_seconds
from cloud_tasks_aws.traits import QUEUE_TRAITS as TRAITS

__all__ = ["SqsQueue"]

_DEPTHS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")


class SqsQueue:
    """The `Queue` of one name. Thread-safe.

    Args:
        client: A boto3 client of SQS.
        generations: Knows where the queue is.
        lease: The first lease of a received message.
        threads: Shared by all calls of this object.
        objects: Where messages over the limit go; None: they are refused.
        shortest_poll: Seconds that an empty answer takes at least.
        clock: By which leases end.
    """

    def __init__(
        self,
        client: Any,
        generations: Generations,
        *,
        lease: timedelta,
        threads: Threads,
        objects: ObjectStore | None = None,
        shortest_poll: int = SHORTEST_POLL,
        clock: Callable[[], float] = since_boot,
    ) -> None:
        self._access = access = Access(client=client, generations=generations)
        self._threads = threads
        self._objects = objects
        book = LeaseBook(clock)
        seconds = whole_seconds(min(lease, TRAITS.max_lease))
        self._sender = Sender(access, threads, objects)
        self._receiver = Receiver(access, threads, book, objects, lease=seconds, shortest_poll=shortest_poll)
        self._settler = Settler(access, threads, book, objects)

    def create(self) -> None:
        self._access.generations.create()

    def delete(self) -> None:
        self._access.generations.delete()
        if self._objects is not None:
            self._objects.remove(self._objects.keys())

    def purge(self) -> None:
        # What is sent from now on may have its object already.
        keys = self._objects.keys() if self._objects is not None else []
        self._access.generations.replace()
        if self._objects is not None:
            self._objects.remove(keys)

    def exists(self) -> bool:
        return self._access.generations.exists()

    def depth(self) -> Depth:
        """`Depth.in_flight` includes delayed messages: both figures together are all that the queue holds."""

        def ask(url: str) -> Mapping[str, str]:
            answer = self._access.client.get_queue_attributes(QueueUrl=url, AttributeNames=list(_DEPTHS))
            found: Mapping[str, str] = answer.get("Attributes") or {}
            return found

        found = self._access.call("asking for the depth of the queue", ask)
        if not found.keys() >= set(_DEPTHS):
            raise ProviderError("SQS did not tell the depth of the queue", transient=True)
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
