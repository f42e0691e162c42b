"""Administration of one Service Bus queue: create, delete and inspect.

The lock duration is a property of the queue, set at its creation: the controller's lease of one minute. A worker renews
after a third of its own lease (``--lease``, one minute by default), so that lease must stay below three minutes.

Invariants, each with a test:

1. The queue has no sessions, its lock duration is the lease of the job, and its messages do not expire.
2. Service Bus dead-letters a message only after more deliveries than any task has.
3. A response of another, such as a proxy, is a transient error: the SDK takes it for a missing queue.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

import attrs
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError, ServiceResponseError
from azure.core.pipeline.transport import RequestsTransport

from cloud_tasks.errors import NotFoundError
from cloud_tasks_azure.servicebus.errors import translate_errors

__all__ = ["AdministrationTransport", "BusAdministration"]

_MIN_LOCK = timedelta(seconds=5)
_MAX_LOCK = timedelta(minutes=5)
"""Limits of a lock duration: "Message transfers, locks, and settlement" in the Azure documentation."""
_MAX_DELIVERIES = 1000
"""The service's default is ten ("Overview of Service Bus dead-letter queues")."""
_ATOM = "http://www.w3.org/2005/Atom"
_MAX_MEGABYTES = 5120
"""The largest size of the standard tier; the default of 1 GB is full with a million tasks ("Service Bus quotas")."""


class AdministrationTransport(RequestsTransport):  # type: ignore[misc]  # its module exports it when it is first used
    """Transport of a `ServiceBusAdministrationClient`. Queues and their absence are in the format Atom."""

    def send(self, request: Any, **options: Any) -> Any:
        response: Any = super().send(request, **options)
        status, text = response.status_code, response.text()
        is_own = {200: _ATOM in text or (request.method == "DELETE" and not text), 201: _ATOM in text}
        is_own[404] = "<Error" in text
        if not is_own.get(status, status >= 400):
            raise ServiceResponseError("invalid response, as from a proxy")
        return response


@attrs.frozen(kw_only=True)
class BusAdministration:
    """One queue of a namespace."""

    client: Any
    """A `ServiceBusAdministrationClient`."""
    name: str
    """The queue's name in Azure."""
    lease: timedelta

    def create(self) -> None:
        """Create the queue unless it exists."""
        with translate_errors(f"creating the queue {self.name}"), contextlib.suppress(ResourceExistsError):
            self.client.create_queue(
                self.name,
                lock_duration=min(max(self.lease, _MIN_LOCK), _MAX_LOCK),
                max_delivery_count=_MAX_DELIVERIES,
                max_size_in_megabytes=_MAX_MEGABYTES,
                requires_session=False,
                user_metadata="cloud-tasks",
            )

    def delete(self) -> None:
        """Delete the queue if it exists."""
        with translate_errors(f"deleting the queue {self.name}"), contextlib.suppress(ResourceNotFoundError):
            self.client.delete_queue(self.name)

    def exists(self) -> bool:
        """Return whether the queue exists."""
        try:
            self.require()
        except NotFoundError:
            return False
        return True

    def require(self) -> None:
        """Raise `NotFoundError` if the queue does not exist."""
        with translate_errors(f"looking up the queue {self.name}"):
            self.client.get_queue(self.name)

    def counts(self) -> Any:
        """Return the `QueueRuntimeProperties`. Raises `NotFoundError`."""
        with translate_errors(f"reading the depth of the queue {self.name}"):
            return self.client.get_queue_runtime_properties(self.name)
