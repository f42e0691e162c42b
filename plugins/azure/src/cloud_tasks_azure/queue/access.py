"""Calls to the current generation of a queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs

from cloud_tasks.errors import NotFoundError
from cloud_tasks_azure.queue.failures import calling
from cloud_tasks_azure.queue.generations import Generations

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

    def call(self, doing: str, call: Callable[[str], _T]) -> _T:
        """Call with the queue's name; retry once if that generation was replaced in the meantime."""
        physical = self.generations.current()
        try:
            with calling(doing):
                return call(physical)
        except NotFoundError:
            self.generations.gone(physical)
        physical = self.generations.current()
        try:
            with calling(doing):
                return call(physical)
        except NotFoundError:
            self.generations.gone(physical)
            raise
