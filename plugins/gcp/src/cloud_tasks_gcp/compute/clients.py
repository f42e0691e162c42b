"""Pool of SDK clients, one set per concurrent call: their HTTP sessions are not thread-safe.

A set is acquired for a call and released after it, so the number of sets is the maximum number of concurrent calls, and
connections are reused.

Invariant, with a test: no two threads ever hold the same set.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, cast

from google.api_core import retry as retries
from google.api_core.client_options import ClientOptions
from google.cloud import compute_v1

from cloud_tasks.errors import ProviderError
from cloud_tasks_gcp.compute.compute_errors import SERVICE, is_transient
from cloud_tasks_gcp.credentials import credentials
from cloud_tasks_gcp.responses import check_responses
from cloud_tasks_gcp.rest import Rest
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["ANSWER_TIMEOUT", "ClientSet", "Clients", "read_retry"]

ANSWER_TIMEOUT = 60.0
"""Time limit of one call in seconds; listings of a large project are slow."""

_WAIT_TIMEOUT = 150.0
"""Time limit of `zoneOperations.wait` in seconds; the API answers within two minutes ("Method:
zoneOperations.wait")."""

_C = TypeVar("_C")


def read_retry() -> retries.Retry:
    """Return the retry policy of read-only calls: transient errors are retried for 30 s."""
    return retries.Retry(initial=0.2, maximum=5.0, multiplier=2.0, timeout=30.0, predicate=is_transient)


class _Client(Generic[_C]):
    """Attribute of a client set: the client of this class."""

    def __init__(self, kind: type[_C]) -> None:
        self._kind = kind

    def __get__(self, owner: ClientSet, _: type[ClientSet]) -> _C:
        return owner.client(self._kind)


class ClientSet:
    """Clients for one thread at a time, created on first use.

    Args:
        make: Creates a client of the given class of the SDK.
        make_rest: Creates a client for calls that the SDK cannot make.
    """

    def __init__(self, make: Callable[[type[Any]], Any], make_rest: Callable[[], Rest]) -> None:
        self._make = make
        self._made: dict[type[Any], Any] = {}
        self._make_rest = make_rest
        self._rest: Rest | None = None

    def client(self, kind: type[_C]) -> _C:
        if kind not in self._made:
            self._made[kind] = self._make(kind)
        return cast(_C, self._made[kind])

    @property
    def rest(self) -> Rest:
        if self._rest is None:
            self._rest = self._make_rest()
        return self._rest

    instances = _Client(compute_v1.InstancesClient)
    operations = _Client(compute_v1.ZoneOperationsClient)
    disks = _Client(compute_v1.DisksClient)
    machine_types = _Client(compute_v1.MachineTypesClient)
    regions = _Client(compute_v1.RegionsClient)
    images = _Client(compute_v1.ImagesClient)
    projects = _Client(compute_v1.ProjectsClient)
    global_operations = _Client(compute_v1.GlobalOperationsClient)

    def wait(self, project: str, zone: str, operation: str) -> compute_v1.Operation:
        """Wait for an operation as long as the API allows; the returned operation may still be running.

        Args:
            zone: Empty for a global operation.
        """
        if not zone:
            return self.global_operations.wait(
                project=project, operation=operation, timeout=_WAIT_TIMEOUT, retry=read_retry()
            )
        return self.operations.wait(
            project=project, zone=zone, operation=operation, timeout=_WAIT_TIMEOUT, retry=read_retry()
        )

    def close(self) -> None:
        for client in self._made.values():
            client.transport.close()
        if self._rest is not None:
            self._rest.close()


class Clients:
    """Client sets of one backend. Thread-safe. Raise `ProviderError` without credentials.

    Args:
        project: Project id for remedies.
    """

    def __init__(self, settings: GcpSettings, project: str) -> None:
        endpoint = settings.compute_endpoint
        self._settings = settings
        self._project = project
        self._credentials = credentials(settings, endpoint=endpoint or None)
        self._options = ClientOptions(api_endpoint=endpoint) if endpoint else ClientOptions()
        self._lock = threading.Lock()
        self._free: list[ClientSet] = []
        self._closed = False

    @contextmanager
    def acquire(self) -> Iterator[ClientSet]:
        """Yield a client set for the calls of this thread. Raise `ProviderError` after `close`."""
        with self._lock:
            if self._closed:
                raise ProviderError("the connection to Compute Engine is closed")
            clients = self._free.pop() if self._free else ClientSet(self._make, self._make_rest)
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
        """Close the idle sets; sets in use are closed on release."""
        with self._lock:
            free, self._free, self._closed = self._free, [], True
        for clients in free:
            clients.close()

    def _make(self, kind: type[Any]) -> Any:
        client = kind(credentials=self._credentials, client_options=self._options, transport="rest")
        # A private attribute: without it, only responses that the SDK cannot read are detected.
        session = getattr(client.transport, "_session", None)
        if session is not None:
            check_responses(session)
        return client

    def _make_rest(self) -> Rest:
        return Rest(
            self._settings,
            self._settings.compute_endpoint or f"https://{SERVICE}",
            service=SERVICE,
            project=self._project,
            sets_quota_project=False,
        )
