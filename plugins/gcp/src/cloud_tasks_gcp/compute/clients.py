"""The SDK's clients, one set for each call under way: their HTTP sessions are not made for several threads at once.

A set is taken for a call and put back after it: there are as many as calls at one time, and their connections live on.

Invariant, with a test: no two threads ever hold one set.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from google.api_core import retry as retries
from google.api_core.client_options import ClientOptions
from google.auth.credentials import Credentials
from google.cloud import compute_v1

from cloud_tasks.errors import ProviderError
from cloud_tasks_gcp.compute.failures import is_passing

__all__ = ["ANSWER_TIMEOUT", "ClientSet", "Clients", "again"]

ANSWER_TIMEOUT = 60.0
"""Seconds that one call may take; listings of a large project take some."""

_WAIT_TIMEOUT = 150.0
"""Seconds for `zoneOperations.wait`, which itself answers within two minutes ("Method: zoneOperations.wait")."""

_C = TypeVar("_C")


def again() -> retries.Retry:
    """For calls that only read: repeated for half a minute while the answer is that of a moment."""
    return retries.Retry(initial=0.2, maximum=5.0, multiplier=2.0, timeout=30.0, predicate=is_passing)


class ClientSet:
    """Clients of one thread, made when they are first asked for.

    Args:
        make: Makes a client of a class.
    """

    def __init__(self, make: Callable[[type[Any]], Any]) -> None:
        self._make = make
        self._made: dict[type[Any], Any] = {}

    def _client(self, kind: type[_C]) -> _C:
        if kind not in self._made:
            self._made[kind] = self._make(kind)
        return cast(_C, self._made[kind])

    @property
    def instances(self) -> compute_v1.InstancesClient:
        return self._client(compute_v1.InstancesClient)

    @property
    def operations(self) -> compute_v1.ZoneOperationsClient:
        return self._client(compute_v1.ZoneOperationsClient)

    @property
    def disks(self) -> compute_v1.DisksClient:
        return self._client(compute_v1.DisksClient)

    @property
    def machine_types(self) -> compute_v1.MachineTypesClient:
        return self._client(compute_v1.MachineTypesClient)

    @property
    def regions(self) -> compute_v1.RegionsClient:
        return self._client(compute_v1.RegionsClient)

    @property
    def images(self) -> compute_v1.ImagesClient:
        return self._client(compute_v1.ImagesClient)

    @property
    def projects(self) -> compute_v1.ProjectsClient:
        return self._client(compute_v1.ProjectsClient)

    def wait(self, project: str, zone: str, operation: str) -> compute_v1.Operation:
        """Wait for an operation as long as the API lets one wait: what comes back may not be done yet."""
        return self.operations.wait(
            project=project, zone=zone, operation=operation, timeout=_WAIT_TIMEOUT, retry=again()
        )

    def close(self) -> None:
        for client in self._made.values():
            client.transport.close()


class Clients:
    """All sets of one backend. Thread-safe.

    Args:
        endpoint: Where to call instead of Google's own address; empty for that.
    """

    def __init__(self, credentials: Credentials, endpoint: str = "") -> None:
        self._credentials = credentials
        self._options = ClientOptions(api_endpoint=endpoint) if endpoint else ClientOptions()
        self._lock = threading.Lock()
        self._free: list[ClientSet] = []
        self._closed = False

    @contextmanager
    def one(self) -> Iterator[ClientSet]:
        """A set for the calls of this thread."""
        with self._lock:
            if self._closed:
                raise ProviderError("the connection to Compute Engine was closed")
            clients = self._free.pop() if self._free else ClientSet(self._make)
        try:
            yield clients
        finally:
            with self._lock:
                keep = not self._closed
                if keep:
                    self._free.append(clients)
            if not keep:
                clients.close()

    def close(self) -> None:
        """Close the sets that are free; those in use are closed when they are put back."""
        with self._lock:
            free, self._free, self._closed = self._free, [], True
        for clients in free:
            clients.close()

    def _make(self, kind: type[Any]) -> Any:
        return kind(credentials=self._credentials, client_options=self._options, transport="rest")
