"""Opening of an SQS queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from cloud_tasks.plugin import Queue, QueueContext
from cloud_tasks_aws.queue.generations import Generations, QueueSpec
from cloud_tasks_aws.queue.leases import since_boot
from cloud_tasks_aws.queue.oversize import ObjectStore
from cloud_tasks_aws.queue.parallel import Threads
from cloud_tasks_aws.queue.receiving import MIN_POLL_SECONDS
from cloud_tasks_aws.queue.sqs_queue import SqsQueue
from cloud_tasks_aws.session import client
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["open_queue", "queue_spec"]

_RETENTION = timedelta(days=14)
_POLL_TIMEOUT = 35.0
"""Seconds without a response; above the 20 s of the longest poll."""
_MAX_BYTES = 1024 * 1024


@contextmanager
def open_queue(
    settings: AwsSettings,
    context: QueueContext,
    *,
    min_poll_seconds: int = MIN_POLL_SECONDS,
    clock: Callable[[], float] = since_boot,
) -> Iterator[Queue]:
    """Open the queue of a name, which need not exist yet.

    Args:
        min_poll_seconds: Minimum seconds of a receive call without messages; zero for emulators, which have one server.
        clock: Monotonic time in seconds, by which leases end.
    """
    # The caller's own threads make calls in addition to the pool's.
    # Besides those of the pool, threads of the caller come with calls of their own.
    connections = settings.queue_threads + 8
    sqs = client(settings, "sqs", context.region, connections=connections, read_timeout=_POLL_TIMEOUT)
    objects = None
    if settings.oversize_location is not None:
        s3 = client(settings, "s3", context.region, connections=connections)
        objects = ObjectStore(s3, settings.oversize_location, context.name)
    queue = SqsQueue(
        sqs,
        Generations(sqs, settings.queue_prefix, context.name, queue_spec(context)),
        lease=context.lease,
        threads=Threads(settings.queue_threads, "cloud-tasks-sqs"),
        objects=objects,
        min_poll_seconds=min_poll_seconds,
        clock=clock,
    )
    try:
        yield queue
    finally:
        queue.close()


def queue_spec(context: QueueContext) -> QueueSpec:
    """Return the attributes of a new queue: encrypted, with the longest retention, tagged with the job."""
    return QueueSpec(
        fifo=context.exactly_once and not context.for_events,
        attributes={
            "MaximumMessageSize": str(_MAX_BYTES),
            "MessageRetentionPeriod": str(round(_RETENTION.total_seconds())),
            "SqsManagedSseEnabled": "true",
        },
        tags={"cloud-tasks-job": context.job_id or context.name, "cloud-tasks-queue": context.name},
    )
