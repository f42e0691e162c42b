"""SDK clients of one subscription, created when first used. Thread-safe.

The Azure SDK's clients are thread-safe ("Azure SDK design guidelines for Python", thread safety), so one of each is
enough.
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
    is_emulator,
    subscription_id,
)
from cloud_tasks_azure.settings import AzureSettings

if TYPE_CHECKING:
    from azure.mgmt.compute import ComputeManagementClient
    from azure.mgmt.network import NetworkManagementClient
    from azure.mgmt.resource.resources import ResourceManagementClient

__all__ = ["Clients"]

_RETRIES = 4
_MAX_BACKOFF = 10
"""Seconds between two attempts of the SDK; the controller retries as well."""
_CONNECT_TIMEOUT, _READ_TIMEOUT = 10, 60
"""Seconds."""


class Clients:
    """Clients of one backend, closed with it.

    Raises:
        ProviderError: No subscription is configured, or the application's credentials are incomplete.
    """

    def __init__(self, settings: AzureSettings) -> None:
        self.subscription = subscription_id(settings)
        self.endpoint = (settings.management_endpoint or MANAGEMENT_ENDPOINT).rstrip("/")
        self._options = {
            **client_options(settings.management_endpoint),
            "retry_total": _RETRIES,
            "retry_backoff_factor": 0.1 if is_emulator(settings.management_endpoint) else 0.8,
            "retry_backoff_max": _MAX_BACKOFF,
            "connection_timeout": _CONNECT_TIMEOUT,
            "read_timeout": _READ_TIMEOUT,
            "polling_interval": settings.operation_poll_seconds,
        }
        self._credential = credential(settings, endpoint=settings.management_endpoint)
        self._lock = threading.Lock()
        self._client_cache: dict[str, Any] = {}
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
                raise ProviderError("the connection to Azure is closed")
            if name not in self._client_cache:
                self._client_cache[name] = make()
            return self._client_cache[name]

    def close(self) -> None:
        """Close connections; idempotent."""
        with self._lock:
            clients, self._client_cache, self._closed = list(self._client_cache.values()), {}, True
        for client in clients:
            client.close()
        self._credential.close()
