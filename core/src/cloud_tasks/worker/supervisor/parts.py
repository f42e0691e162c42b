"""Parts of a supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.common.shared_flags import SharedFlags
from cloud_tasks.worker.reporting.event_encoder import EventEncoder
from cloud_tasks.worker.reporting.reporter import Reporter
from cloud_tasks.worker.supervisor.event_loop import EventLoop
from cloud_tasks.worker.supervisor.execution.completion import CompletionHandler

if TYPE_CHECKING:
    import socket

    from cloud_tasks.worker.consumers.base import TaskConsumer

__all__ = ["SupervisorParts"]


class SupervisorParts(NamedTuple):
    """The objects that a supervisor works with; created before it, closed after it."""

    loop: EventLoop
    zygote: socket.socket
    """Socket of the zygote, a child of this process."""
    consumer: TaskConsumer
    reporter: Reporter
    completion: CompletionHandler
    events: EventEncoder
    flags: SharedFlags
    log: Log
