"""The Storage Queue backend."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import Delivery, Depth, SendFailure
from cloud_tasks_azure.queue.access import Access
from cloud_tasks_azure.queue.batch_ack import Settler, whole_seconds
from cloud_tasks_azure.queue.leases import LeaseTable
from cloud_tasks_azure.queue.oversize import BlobStore
from cloud_tasks_azure.queue.parallel import Threads
from cloud_tasks_azure.queue.queue_errors import code_of
from cloud_tasks_azure.queue.receiving import MAX_PER_CALL, PollBackoff, Receiver
from cloud_tasks_azure.queue.sending import Sender
from cloud_tasks_azure.traits import QUEUE_TRAITS as TRAITS

__all__ = ["StorageQueue"]

_MAX_CLEAR_CALLS = 20


class StorageQueue:
    """`Queue` on Azure Storage. Thread-safe.

    Args:
        lease: First lease of a received message.
        threads: Pool shared by all calls.
        blobs: Store of bodies over the size limit; None: they are refused.
        max_pause: Maximum seconds between two polls of an empty queue.
    """

    def __init__(
        self,
        access: Access,
        *,
        lease: timedelta,
        threads: Threads,
        blobs: BlobStore | None,
        max_pause: float,
    ) -> None:
        self._access = access
        self._threads = threads
        self._blobs = blobs
        leases = LeaseTable()
        seconds = whole_seconds(min(lease, TRAITS.max_lease))
        self._sender = Sender(access, threads, blobs)
        self._receiver = Receiver(access, threads, leases, blobs, lease=seconds, pauses=PollBackoff(max_pause))
        self._settler = Settler(access, threads, leases, blobs)

    def create(self) -> None:
        self._access.generations.create()

    def delete(self) -> None:
        self._access.generations.delete()
        if self._blobs is not None:
            self._blobs.remove(self._blobs.names())

    def purge(self) -> None:
        """Delete all messages, delayed and leased ones included."""
        # Listed first: a message sent after the purge may already have its blob.
        names = self._blobs.names() if self._blobs is not None else []
        for _ in range(_MAX_CLEAR_CALLS):
            try:
                self._access.call("clearing the queue", lambda physical: self._access.client(physical).clear_messages())
                break
            except NotFoundError:
                raise
            except ProviderError as error:
                # Many messages take several calls: "Clear Messages" in the reference of the Queue service.
                if code_of(error.__cause__) != "OperationTimedOut":
                    raise
        else:
            raise ProviderError(f"clearing the queue: not finished after {_MAX_CLEAR_CALLS} calls", transient=True)
        if self._blobs is not None:
            self._blobs.remove(names)

    def exists(self) -> bool:
        return self._access.generations.exists()

    def depth(self) -> Depth:
        """Return the depth; Azure reports one total, and the number of visible messages only below 32."""

        def read(physical: str) -> Depth:
            client = self._access.client(physical)
            visible = len(client.peek_messages(max_messages=MAX_PER_CALL))
            total = client.get_queue_properties().approximate_message_count or 0
            few = visible < MAX_PER_CALL
            return Depth(
                visible=visible if few else total,
                in_flight=max(0, total - visible) if few else None,
                exact=False,
                as_of=datetime.now(UTC),
            )

        return self._access.call("reading the depth of the queue", read)

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
