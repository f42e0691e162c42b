"""Backend registered by this distribution. The NATS library is imported when a queue is opened or checked."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_tasks.plugin import QueueBackend, hookimpl
from cloud_tasks_nats.settings import NatsSettings
from cloud_tasks_nats.traits import TRAITS

__all__ = ["cloud_tasks_register_queue"]


@hookimpl
def cloud_tasks_register_queue() -> Sequence[QueueBackend]:
    return (
        QueueBackend(
            name="nats",
            summary="Queues on a NATS server with JetStream",
            settings=NatsSettings,
            traits=TRAITS,
            open="cloud_tasks_nats.queue:NatsQueue",
            check="cloud_tasks_nats.checks:check",
        ),
    )
