"""The queue itself, put together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import Delivery, Depth, SendFailure
from cloud_tasks_azure.queue.access import Access
from cloud_tasks_azure.queue.failures import code_of
from cloud_tasks_azure.queue.leases import LeaseBook
from cloud_tasks_azure.queue.oversize import BlobStore
from cloud_tasks_azure.queue.parallel import Threads
from cloud_tasks_azure.queue.receiving import PER_CALL, Pauses, Receiver
from cloud_tasks_azure.queue.sending import Sender
from cloud_tasks_azure.queue.settling import Settler, whole_seconds
from cloud_tasks_azure.traits import QUEUE_TRAITS as TRAITS

__all__ = ["StorageQueue"]

_CLEAR_TRIES = 20


class StorageQueue:
    """The `Queue` of one name. Thread-safe.

    Args:
        lease: The first lease of a received message.
        threads: Shared by all calls of this object.
        blobs: Where bodies go that are too large for a message; None: they are refused.
        longest_pause: Seconds between two looks of a consumer that finds nothing.
    """

    def __init__(
        self,
        access: Access,
        *,
        lease: timedelta,
        threads: Threads,
        blobs: BlobStore | None,
        longest_pause: float,
    ) -> None:
        self._access = access
        self._threads = threads
        self._blobs = blobs
        book = LeaseBook()
        seconds = whole_seconds(min(lease, TRAITS.max_lease))
        self._sender = Sender(access, threads, blobs)
        self._receiver = Receiver(access, threads, book, blobs, lease=seconds, pauses=Pauses(longest_pause))
        self._settler = Settler(access, threads, book, blobs)

    def create(self) -> None:
        self._access.generations.create()

    def delete(self) -> None:
        self._access.generations.delete()
        if self._blobs is not None:
            self._blobs.remove(self._blobs.names())

    def purge(self) -> None:
        """Remove all messages, delayed and leased ones included."""
        # What is sent from now on may have its blob already.
        names = self._blobs.names() if self._blobs is not None else []
        for _ in range(_CLEAR_TRIES):
            try:
                self._access.call("clearing the queue", lambda physical: self._access.client(physical).clear_messages())
                break
            except NotFoundError:
                raise
            except ProviderError as error:
                # So many messages that it takes several calls: "Clear Messages" in the reference of the Queue service.
                if code_of(error.__cause__) != "OperationTimedOut":
                    raise
        else:
            raise ProviderError("clearing the queue: it takes longer than expected", transient=True)
        if self._blobs is not None:
            self._blobs.remove(names)

    def exists(self) -> bool:
        return self._access.generations.exists()

    def depth(self) -> Depth:
        """Azure tells all messages in one figure; which of them wait is known where they are less than 32."""

        def ask(physical: str) -> Depth:
            client = self._access.client(physical)
            waiting = len(client.peek_messages(max_messages=PER_CALL))
            total = client.get_queue_properties().approximate_message_count or 0
            few = waiting < PER_CALL
            return Depth(
                visible=waiting if few else total,
                in_flight=max(0, total - waiting) if few else None,
                exact=False,
                as_of=datetime.now(UTC),
            )

        return self._access.call("asking for the depth of the queue", ask)

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
        self._receiver.close()
        self._threads.close()
        if self._blobs is not None:
            self._blobs.close()
        self._access.service.close()
