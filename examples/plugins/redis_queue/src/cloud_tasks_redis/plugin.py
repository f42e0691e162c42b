"""Backend registered by this distribution. The Redis library is imported when a queue is opened."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_tasks.plugin import QueueBackend, hookimpl
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
            open="cloud_tasks_redis.queue:open_queue",
        ),
    )
