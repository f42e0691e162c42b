"""Makes, removes and looks at one queue of Service Bus.

How long a lock lasts is a property of the queue, set by who makes it: the controller, with its lease of a minute. A
worker renews after a third of its own lease (``--lease``, a minute too), so that must stay below three minutes here.

Invariants, each with a test:

1. The queue has no sessions, its locks last for the lease of the job, and its messages do not end by age.
2. Service Bus puts a message aside only after more deliveries than any task has.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

import attrs
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError

from cloud_tasks_azure.queue.servicebus_failures import calling

__all__ = ["BusAdministration"]

_SHORTEST_LOCK = timedelta(seconds=5)
_LONGEST_LOCK = timedelta(minutes=5)
"""Of a lock's duration: "Message transfers, locks, and settlement" in the Azure documentation."""
_MANY = 1000
"""Deliveries; the service's own figure is ten ("Overview of Service Bus dead-letter queues")."""


@attrs.frozen(kw_only=True)
class BusAdministration:
    """One queue of a namespace."""

    client: Any
    """A `ServiceBusAdministrationClient`."""
    name: str
    """The queue's name at Azure."""
    lease: timedelta

    def create(self) -> None:
        """Make the queue unless there is one."""
        with calling(f"making the queue {self.name}"), contextlib.suppress(ResourceExistsError):
            self.client.create_queue(
                self.name,
                lock_duration=min(max(self.lease, _SHORTEST_LOCK), _LONGEST_LOCK),
                max_delivery_count=_MANY,
                requires_session=False,
                user_metadata="cloud-tasks",
            )

    def delete(self) -> None:
        """Remove the queue, if there is one."""
        with calling(f"deleting the queue {self.name}"), contextlib.suppress(ResourceNotFoundError):
            self.client.delete_queue(self.name)

    def exists(self) -> bool:
        """Whether it is there."""
        with calling(f"looking for the queue {self.name}"):
            try:
                self.client.get_queue(self.name)
            except ResourceNotFoundError:
                return False
            return True

    def require(self) -> None:
        """Raises `NotFound` where it is not there."""
        with calling(f"looking for the queue {self.name}"):
            self.client.get_queue(self.name)

    def counts(self) -> Any:
        """Its `QueueRuntimeProperties`. Raises `NotFound`."""
        with calling(f"asking for the depth of the queue {self.name}"):
            return self.client.get_queue_runtime_properties(self.name)
