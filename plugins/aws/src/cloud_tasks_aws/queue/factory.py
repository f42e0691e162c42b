"""Opening of an SQS queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from cloud_tasks.plugin import Queue, QueueContext
from cloud_tasks.plugin.kit import OversizeQueue, since_boot
from cloud_tasks_aws.queue.bodies import fits
from cloud_tasks_aws.queue.body_store import S3BodyStore
from cloud_tasks_aws.queue.generations import Generations, QueueSpec
from cloud_tasks_aws.queue.sqs_queue import MIN_POLL, SqsQueue
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
    min_poll: timedelta = MIN_POLL,
    clock: Callable[[], float] = since_boot,
) -> Iterator[Queue]:
    """Open the queue of a name, which need not exist yet.

    Args:
        min_poll: Minimum wait of a receive call without messages; zero for emulators, which have one server.
        clock: Monotonic time in seconds, by which leases end.
    """
    # The caller's own threads make calls in addition to the pool's.
    connections = settings.queue_threads + 8
    sqs = client(settings, "sqs", context.region, connections=connections, read_timeout=_POLL_TIMEOUT)
    generations = Generations(sqs, settings.queue_prefix, context.name, queue_spec(context))
    messages = SqsQueue(
        sqs, generations, lease=context.lease, threads=settings.queue_threads, min_poll=min_poll, clock=clock
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
