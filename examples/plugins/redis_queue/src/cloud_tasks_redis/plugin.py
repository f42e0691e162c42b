"""Registration of the backends. The Redis library is imported when a queue is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cloud_tasks.plugin import Queue, QueueBackend, QueueContext, hookimpl
from cloud_tasks_redis.settings import RedisSettings
from cloud_tasks_redis.traits import TRAITS

__all__ = ["cloud_tasks_register_queue"]


@hookimpl
def cloud_tasks_register_queue() -> Sequence[QueueBackend]:
    return (
        QueueBackend(
            name="redis",
            summary="Queues on a Redis server",
            settings=RedisSettings,
            traits=TRAITS,
            open=_open_queue,
        ),
    )


@contextmanager
def _open_queue(settings: RedisSettings, context: QueueContext) -> Iterator[Queue]:
    from cloud_tasks_redis.connection import connect
    from cloud_tasks_redis.queue import RedisQueue

    queue = RedisQueue(connect(settings), prefix=settings.prefix, name=context.name, lease=context.lease)
    try:
        yield queue
    finally:
        queue.close()
