"""The SDK's clients of one subscription, made when they are first asked for. Thread-safe.

The Azure SDK's clients may be used by several threads at once ("Azure SDK design guidelines for Python", thread
safety), so that there is one of each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cloud_tasks.errors import ProviderError
from cloud_tasks_azure.credentials import (
    MANAGEMENT_ENDPOINT,
    client_options,
    credential,
    is_stand_in,
    subscription_id,
)
from cloud_tasks_azure.settings import AzureSettings

if TYPE_CHECKING:
    from azure.mgmt.compute import ComputeManagementClient
    from azure.mgmt.network import NetworkManagementClient
    from azure.mgmt.resource.resources import ResourceManagementClient

__all__ = ["Clients"]

_RETRIES = 4
_LONGEST_PAUSE = 10
"""Seconds between two of the SDK's own attempts; the controller has its own patience."""
_CONNECT, _READ = 10, 60
"""Seconds."""


class Clients:
    """All clients of one backend; closed with it.

    Raises `ProviderError` without a subscription, or with half of an application's credentials.
    """

    def __init__(self, settings: AzureSettings) -> None:
        self.subscription = subscription_id(settings)
        self.endpoint = (settings.management_endpoint or MANAGEMENT_ENDPOINT).rstrip("/")
        self._options = {
            **client_options(settings.management_endpoint),
            "retry_total": _RETRIES,
            "retry_backoff_factor": 0.1 if is_stand_in(settings.management_endpoint) else 0.8,
            "retry_backoff_max": _LONGEST_PAUSE,
            "connection_timeout": _CONNECT,
            "read_timeout": _READ,
            "polling_interval": settings.operation_poll_seconds,
        }
        self._credential = credential(settings, endpoint=settings.management_endpoint)
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}
        self._closed = False

    @property
    def compute(self) -> ComputeManagementClient:
        def make() -> Any:
            from azure.mgmt.compute import ComputeManagementClient

            return ComputeManagementClient(self._credential, self.subscription, **self._options)

        client: ComputeManagementClient = self._client("compute", make)
        return client

    @property
    def network(self) -> NetworkManagementClient:
        def make() -> Any:
            from azure.mgmt.network import NetworkManagementClient

            return NetworkManagementClient(self._credential, self.subscription, **self._options)

        client: NetworkManagementClient = self._client("network", make)
        return client

    @property
    def resources(self) -> ResourceManagementClient:
        def make() -> Any:
            from azure.mgmt.resource.resources import ResourceManagementClient

            return ResourceManagementClient(self._credential, self.subscription, **self._options)

        client: ResourceManagementClient = self._client("resources", make)
        return client

    def _client(self, name: str, make: Callable[[], Any]) -> Any:
        with self._lock:
            if self._closed:
                raise ProviderError("the connection to Azure was closed")
            if name not in self._made:
                self._made[name] = make()
            return self._made[name]

    def close(self) -> None:
        """Free connections; may be called again."""
        with self._lock:
            made, self._made, self._closed = list(self._made.values()), {}, True
        for client in made:
            client.close()
        self._credential.close()
