"""Creation of queues from settings and context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from cloud_tasks.plugin import Depth, Queue, QueueContext
from cloud_tasks_gcp.credentials import identity, project_id
from cloud_tasks_gcp.queue.monitoring import read_depth
from cloud_tasks_gcp.queue.names import label_value, names
from cloud_tasks_gcp.queue.pubsub import MIN_POLL, PubSubQueue
from cloud_tasks_gcp.queue.pubsub_client import PubsubClient, QueueSpec, open_channel
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["open_queue", "queue_spec"]

_TASK_DEADLINE, _EVENT_DEADLINE = 10, 15
"""Ack deadlines of new subscriptions in seconds (Pub/Sub's minimum is ten). A message whose response was lost, or whose
receiver is gone, returns after it; a consumer sets its own lease with one call for all received messages. Events have
one reader, which acknowledges at once, so the subscription's deadline suffices."""


@contextmanager
def open_queue(settings: GcpSettings, context: QueueContext, *, min_poll: float = MIN_POLL) -> Iterator[Queue]:
    """Open the queue of a name; it need not exist yet.

    Args:
        min_poll: Minimum duration of an empty receive in seconds; an emulator on this machine needs less.
    """
    project = project_id(settings)
    where = names(project, settings.queue_prefix, context.name)

    def depth() -> Depth:
        return read_depth(settings, project, where.subscription_id)

    queue = PubSubQueue(
        PubsubClient(open_channel(settings), where, project),
        queue_spec(settings, context),
        lease=context.lease,
        read_depth=depth,
        project=project,
        min_poll=min_poll,
        startup_log=() if context.for_events else _startup_log(settings, project, context.name),
    )
    try:
        yield queue
    finally:
        queue.close()


def queue_spec(settings: GcpSettings, context: QueueContext) -> QueueSpec:
    """Return the properties of a new queue; task-only features are off for events."""
    return QueueSpec(
        ack_deadline=_EVENT_DEADLINE if context.for_events else _TASK_DEADLINE,
        retention=timedelta(days=settings.retention_days),
        labels={"cloud-tasks-job": label_value(context.job_id or context.name)},
        exactly_once=context.exactly_once and not context.for_events,
    )


def _startup_log(settings: GcpSettings, project: str, name: str) -> tuple[str, ...]:
    """Return the log lines of a queue's creation: location and credentials."""
    return (
        f'Initializing GCP Pub/Sub queue "{name}" with project ID "{project}"',
        f"Using {identity(settings, endpoint=settings.pubsub_endpoint or None)}",
    )
