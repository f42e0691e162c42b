"""Calls to the current generation of a queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs

from cloud_tasks.errors import NotFoundError
from cloud_tasks_azure.queue.generations import Generations
from cloud_tasks_azure.queue.queue_errors import translate_errors

__all__ = ["Access"]

_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class Access:
    """A `QueueServiceClient` and the generations of one queue."""

    service: Any
    generations: Generations

    def client(self, physical: str) -> Any:
        """Return the `QueueClient` of a queue, on the service's connections."""
        return self.service.get_queue_client(physical)

    def call(self, action: str, call: Callable[[str], _T]) -> _T:
        """Call with the queue's name; retry once if that generation was replaced in the meantime."""
        physical = self.generations.current()
        try:
            with translate_errors(action):
                return call(physical)
        except NotFoundError:
            self.generations.mark_deleted(physical)
        physical = self.generations.current()
        try:
            with translate_errors(action):
                return call(physical)
        except NotFoundError:
            self.generations.mark_deleted(physical)
            raise
