"""Opening of a storage queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cloud_tasks.plugin import Queue, QueueContext
from cloud_tasks_azure.queue.access import Access
from cloud_tasks_azure.queue.account import blob_container, queue_service
from cloud_tasks_azure.queue.generations import Generations
from cloud_tasks_azure.queue.names import base_name
from cloud_tasks_azure.queue.oversize import BlobStore
from cloud_tasks_azure.queue.parallel import Threads
from cloud_tasks_azure.queue.storage_queue import StorageQueue
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["open_storage_queue"]


@contextmanager
def open_storage_queue(settings: AzureSettings, context: QueueContext) -> Iterator[Queue]:
    """Open the queue of a name, which need not exist yet."""
    # The caller's own threads make calls in addition to the pool's.
    connections = settings.queue_threads + 8
    service = queue_service(settings, connections=connections)
    threads = Threads(settings.queue_threads, "cloud-tasks-azure")
    blobs = None
    container = settings.oversize_container
    if container:
        blobs = BlobStore(
            lambda: blob_container(settings, container, connections=connections),
            base_name(settings.queue_prefix, context.name),
            threads,
        )
    queue = StorageQueue(
        Access(
            service=service,
            generations=Generations(service, settings.queue_prefix, context.name, context.job_id or context.name),
        ),
        lease=context.lease,
        threads=threads,
        blobs=blobs,
        max_pause=settings.queue_poll_seconds,
    )
    try:
        yield queue
    finally:
        queue.close()
