"""Opening of an SQS queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from cloud_tasks.plugin import Queue, QueueContext
from cloud_tasks.plugin.kit import OversizeQueue, since_boot
from cloud_tasks_aws.queue.bodies import fits
from cloud_tasks_aws.queue.body_store import S3BodyStore
from cloud_tasks_aws.queue.named_queue import NamedQueue
from cloud_tasks_aws.queue.sqs_queue import MIN_POLL, PURGE_TIME, SqsQueue
from cloud_tasks_aws.session import client
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["open_queue"]

_POLL_TIMEOUT = 35.0
"""Seconds without a response; above the 20 s of the longest poll."""


@contextmanager
def open_queue(
    settings: AwsSettings,
    context: QueueContext,
    *,
    min_poll: timedelta = MIN_POLL,
    purge_time: timedelta = PURGE_TIME,
    clock: Callable[[], float] = since_boot,
) -> Iterator[Queue]:
    """Open the queue of a name, which need not exist yet.

    Args:
        min_poll: Minimum wait of a receive call without messages; zero for emulators, which have one server.
        purge_time: Wait after a purge; zero for emulators, which purge at once.
        clock: Monotonic time in seconds, by which leases end.
    """
    # The caller's own threads make calls in addition to the pool's.
    connections = settings.queue_threads + 8
    sqs = client(settings, "sqs", context.region, connections=connections, read_timeout=_POLL_TIMEOUT)
    messages = SqsQueue(
        sqs,
        NamedQueue(sqs, settings.queue_prefix, context, tags=settings.tags),
        lease=context.lease,
        threads=settings.queue_threads,
        min_poll=min_poll,
        purge_time=purge_time,
        clock=clock,
    )
    store = None
    if settings.oversize_location is not None:
        s3 = client(settings, "s3", context.region, connections=connections)
        store = S3BodyStore(s3, settings.oversize_location, context.name)
    remedy = "set aws.oversize_location"
    queue = OversizeQueue(messages, store, fits=fits, remedy=remedy, threads=settings.queue_threads)
    try:
        yield queue
    finally:
        queue.close()
