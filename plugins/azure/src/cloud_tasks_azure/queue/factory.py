"""Opening of a storage queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cloud_tasks.plugin import Queue, QueueContext
from cloud_tasks.plugin.kit import OversizeQueue
from cloud_tasks_azure.queue.account import blob_container, queue_service
from cloud_tasks_azure.queue.body_store import BlobBodyStore
from cloud_tasks_azure.queue.names import azure_name, metadata_for
from cloud_tasks_azure.queue.storage_queue import INLINE_BYTES, StorageQueue
from cloud_tasks_azure.settings import AzureSettings
from cloud_tasks_azure.traits import QUEUE_TRAITS

__all__ = ["open_storage_queue"]


@contextmanager
def open_storage_queue(settings: AzureSettings, context: QueueContext) -> Iterator[Queue]:
    """Open the queue of a name, which need not exist yet."""
    # The caller's own threads make calls in addition to the pool's.
    connections = settings.queue_threads + 8
    name = azure_name(settings.queue_prefix, context.name)
    messages = StorageQueue(
        queue_service(settings, connections=connections),
        name,
        metadata_for(context.name, context.job_id or context.name),
        lease=context.lease,
        threads=settings.queue_threads,
        max_pause=settings.queue_poll_seconds,
    )
    store = None
    container = settings.oversize_container
    if container:
        store = BlobBodyStore(
            lambda: blob_container(settings, container, connections=connections),
            name,
            settings.queue_threads,
        )
    queue = OversizeQueue(
        messages,
        store,
        fits=lambda body: len(body) <= INLINE_BYTES,
        remedy="set azure.oversize_container",
        max_bytes=QUEUE_TRAITS.max_message_bytes,
        threads=settings.queue_threads,
    )
    try:
        yield queue
    finally:
        queue.close()
        if store is not None:
            store.close()
