"""Puts a queue together from settings and context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from cloud_tasks.plugin import Depth, Queue, QueueContext
from cloud_tasks_gcp.credentials import identity, project_id
from cloud_tasks_gcp.queue.monitoring import ask_depth
from cloud_tasks_gcp.queue.names import label_value, names
from cloud_tasks_gcp.queue.pubsub import SHORTEST_LOOK, PubSubQueue
from cloud_tasks_gcp.queue.wire import Shape, Wire, open_channel
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["open_queue", "shape_for"]

_TASK_DEADLINE, _EVENT_DEADLINE = 10, 15
"""Seconds (Pub/Sub has none shorter than ten). Messages whose answer was lost, or whose receiver is gone, are back
after that; who did receive them takes the lease that it wants with one call for all of them. Events have one reader,
which acknowledges at once: what the subscription gives is enough."""


@contextmanager
def open_queue(
    settings: GcpSettings, context: QueueContext, *, shortest_look: float = SHORTEST_LOOK
) -> Iterator[Queue]:
    """The queue of a name, which need not exist yet.

    Args:
        shortest_look: Seconds that an empty answer takes at least; a stand-in on this machine answers sooner.
    """
    project = project_id(settings)
    where = names(project, settings.queue_prefix, context.name)

    def depth() -> Depth:
        return ask_depth(settings, project, where.subscription_id)

    queue = PubSubQueue(
        Wire(open_channel(settings), where, project),
        shape_for(settings, context),
        lease=context.lease,
        ask_depth=depth,
        project=project,
        shortest_look=shortest_look,
        greeting=() if context.for_events else _greeting(settings, project, context.name),
    )
    try:
        yield queue
    finally:
        queue.close()


def shape_for(settings: GcpSettings, context: QueueContext) -> Shape:
    """What the queue is made with, if it has to be made. What is special about tasks is not done to events."""
    return Shape(
        ack_deadline=_EVENT_DEADLINE if context.for_events else _TASK_DEADLINE,
        retention=timedelta(days=settings.retention_days),
        labels={"cloud-tasks-job": label_value(context.job_id or context.name)},
        exactly_once=context.exactly_once and not context.for_events,
        dead_letter_topic=None if context.for_events else _topic_path(settings),
        max_delivery_attempts=settings.max_delivery_attempts,
    )


def _greeting(settings: GcpSettings, project: str, name: str) -> tuple[str, ...]:
    """What is told when a queue is made: where it is, and who makes it."""
    return (
        f'Initializing GCP Pub/Sub queue "{name}" with project ID "{project}"',
        f"Using {identity(settings, endpoint=settings.pubsub_endpoint or None)}",
    )


def _topic_path(settings: GcpSettings) -> str | None:
    topic = settings.dead_letter_topic
    if topic is None or topic.startswith("projects/"):
        return topic
    return f"projects/{project_id(settings)}/topics/{topic}"
