"""Clients of Azure Resource Manager for one subscription, and the operations that their requests begin. Thread-safe.

Microsoft.Compute is called through ``azure-mgmt-compute``; the few calls of other providers are plain requests. Each
call names the API version that it was written for, so an update of a library changes no request.

Invariants, each with a test:

1. No call waits longer than the caller's patience: pauses that Azure asks for (``Retry-After``, up to 45 minutes) are
   the controller's business. A throttled or refused request is never repeated here.
2. A listing has all pages, or an error is raised.
3. An operation that failed raises the error that Azure names for it.
4. A response of a proxy is an error (`OwnAnswers`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from azure.core.exceptions import DecodeError, HttpResponseError
from azure.core.pipeline import PipelineContext, PipelineResponse, policies
from azure.core.polling.base_polling import BadResponse, BadStatus
from azure.core.rest import HttpRequest, HttpResponse
from azure.mgmt.core import ARMPipelineClient
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy, ARMHttpLoggingPolicy
from azure.mgmt.core.polling.arm_polling import ARMPolling

from cloud_tasks.errors import ProviderError
from cloud_tasks_azure.compute.answers import OwnAnswers
from cloud_tasks_azure.credentials import MANAGEMENT_ENDPOINT, credential, is_emulator, subscription_id
from cloud_tasks_azure.settings import AzureSettings

if TYPE_CHECKING:
    from azure.mgmt.compute import ComputeManagementClient

__all__ = [
    "BEGIN",
    "COMPUTE",
    "DISKS",
    "GALLERIES",
    "NETWORK",
    "RESOURCES",
    "SKUS",
    "Arm",
    "Operation",
]

# API versions of the resource providers. They decide what a request may contain and what a response has.
COMPUTE = "2024-07-01"
DISKS = "2024-03-02"
GALLERIES = "2023-07-03"
NETWORK = "2024-05-01"
RESOURCES = "2021-04-01"
SKUS = "2021-07-01"

BEGIN: Mapping[str, Any] = {"polling": False, "cls": lambda response, *_: response.http_response}
"""Options of the SDK's ``begin_…``: the result is the response, for `Arm.operation`, and no thread polls."""

_RETRIES = 3
_MAX_PAUSE = 5
"""Seconds between two attempts; the controller repeats calls as well."""
_POLL_LIMIT = 30.0
"""Longest pause between two polls of an operation in seconds, whatever Azure asks for."""
_UNKNOWN = (404, 408, 429, 500, 502, 503, 504)
"""Statuses of a poll that say nothing about the operation."""


class _Retries(policies.RetryPolicy[Any, Any]):
    """Repeats requests that Azure did not judge: no connection, no response, a server error."""

    def is_retry(self, settings: dict[str, Any], response: Any) -> bool:
        # The library's own policy repeats every refusal with a Retry-After header, and sleeps for that time.
        status = response.http_response.status_code
        return (status == 408 or status >= 500) and bool(settings["total"])

    def get_retry_after(self, response: Any) -> float | None:
        pause = super().get_retry_after(response)
        return None if pause is None else min(pause, _MAX_PAUSE)


class Operation(ARMPolling):
    """Operation that a response began, polled by its caller: the library's poller has a thread and no limit."""

    _asked: float | None = None
    """Pause that the latest poll asked for instead of an answer."""

    @property
    def pause(self) -> float:
        """Seconds until the next poll."""
        return min(self._asked or self._extract_delay(), _POLL_LIMIT)

    def update_status(self) -> None:
        """Poll once. Raises `HttpResponseError` if the operation failed."""
        latest, self._asked = self._pipeline_response, None
        try:
            super().update_status()
        except (BadStatus, BadResponse, DecodeError) as error:
            self._asked = self._extract_delay()
            answer, self._pipeline_response = self._pipeline_response.http_response, latest
            if answer.status_code >= 400 and answer.status_code not in _UNKNOWN:
                raise HttpResponseError(response=answer) from error
            # Throttled or failed: the poll, not the operation. Without an operation, the caller reads the resource.
            if answer.status_code == 404:
                self._status = "Succeeded"
        if self.status().lower() in ("failed", "canceled", "cancelled"):
            raise HttpResponseError(response=self._pipeline_response.http_response)


class Arm:
    """Resource Manager for one subscription.

    Raises:
        ProviderError: No subscription is configured, or the application's credentials are incomplete.
    """

    def __init__(self, settings: AzureSettings) -> None:
        self.subscription = subscription_id(settings)
        self.endpoint = (settings.management_endpoint or MANAGEMENT_ENDPOINT).rstrip("/")
        self.poll_seconds = settings.operation_poll_seconds
        self._credential = credential(settings, endpoint=settings.management_endpoint)
        self._client: ARMPipelineClient[HttpRequest, HttpResponse] = ARMPipelineClient(self.endpoint, **self._options())
        self._compute: dict[str, ComputeManagementClient] = {}
        self._clients = ExitStack()
        self._clients.callback(self._credential.close)
        self._clients.callback(self._client.close)
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def _options(self) -> dict[str, Any]:
        emulated = is_emulator(self.endpoint)
        signed = [] if emulated else [ARMChallengeAuthenticationPolicy(self._credential, f"{self.endpoint}/.default")]
        factor = 0.02 if emulated else 0.8
        # The SDK's own list would register a missing resource provider within a request, which takes minutes.
        used = [
            policies.RequestIdPolicy(),
            policies.UserAgentPolicy("cloud-tasks"),
            policies.ProxyPolicy(),
            OwnAnswers(),
            policies.RedirectPolicy(),
            _Retries(retry_total=_RETRIES, retry_backoff_factor=factor, retry_backoff_max=_MAX_PAUSE),
            *signed,
            policies.CustomHookPolicy(),
            policies.SensitiveHeaderCleanupPolicy(),
            ARMHttpLoggingPolicy(),
        ]
        return {"policies": used, "connection_timeout": 10, "read_timeout": 60}

    def compute(self, subscription: str = "") -> ComputeManagementClient:
        """Return the client of Microsoft.Compute for this subscription, or for that of a gallery."""
        from azure.mgmt.compute import ComputeManagementClient

        with self._lock:
            self._check_open()
            name = subscription or self.subscription
            if name not in self._compute:
                self._compute[name] = ComputeManagementClient(self._credential, name, self.endpoint, **self._options())
                self._clients.callback(self._compute[name].close)
            return self._compute[name]

    # Plain requests. Paths without ``/subscriptions/`` are below the subscription. All raise the errors of azure-core.

    def get(self, path: str, version: str) -> dict[str, Any]:
        """Return a resource."""
        found: dict[str, Any] = self._send("GET", self._url(path, version)).json()
        return found

    def exists(self, path: str, version: str) -> bool:
        """Return whether a resource group exists."""
        return self._send("HEAD", self._url(path, version), allowed=404).status_code != 404

    def entries(self, path: str, version: str, **query: str) -> list[dict[str, Any]]:
        """Return all entries of a listing."""
        found, url = [], self._url(path, version, **query)
        while url:
            page = self._send("GET", url).json()
            found += page["value"]
            url = page.get("nextLink") or ""
        return found

    def put(self, path: str, version: str, body: Mapping[str, Any]) -> HttpResponse:
        """Create or update a resource and return the response, for `operation`."""
        return self._send("PUT", self._url(path, version), json=dict(body))

    def patch(self, path: str, version: str, body: Mapping[str, Any]) -> None:
        """Change some properties of a resource."""
        self._send("PATCH", self._url(path, version), json=dict(body))

    def post(self, path: str, version: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call an action of a resource and return its result."""
        found: dict[str, Any] = self._send("POST", self._url(path, version), json=dict(body or {})).json()
        return found

    def delete(self, path: str, version: str) -> HttpResponse:
        """Begin to delete a resource and return the response, for `operation`."""
        return self._send("DELETE", self._url(path, version))

    # Operations

    def operation(self, response: HttpResponse) -> Operation:
        """Return the operation that a response began. Raises `HttpResponseError` if it has failed."""
        operation = Operation(self.poll_seconds)
        began = PipelineResponse(response.request, response, PipelineContext(None))
        operation.initialize(self._client, began, lambda found: None)
        return operation

    def wait(self, operation: Operation, *, timeout: timedelta) -> None:
        """Wait for an operation.

        Raises:
            TimeoutError: It is still running.
            HttpResponseError: It failed.
        """
        deadline = time.monotonic() + timeout.total_seconds()
        while not operation.finished():
            if time.monotonic() + operation.pause > deadline or self._closed.wait(operation.pause):
                raise TimeoutError("the operation is still running")
            operation.update_status()

    def close(self) -> None:
        """Close connections and interrupt waits; idempotent."""
        with self._lock:
            self._closed.set()
            self._clients.close()

    def _url(self, path: str, version: str, **query: str) -> str:
        full = path if path.startswith("/subscriptions/") else f"/subscriptions/{self.subscription}{path}"
        text = urlencode({"api-version": version, **query}, quote_via=quote)
        return f"{self.endpoint}{quote(full, safe='/')}?{text}"

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ProviderError("the connection to Azure is closed")

    def _send(self, method: str, url: str, *, allowed: int = 0, **options: Any) -> HttpResponse:
        self._check_open()
        response = self._client.send_request(HttpRequest(method, url, **options))
        if response.status_code >= 400 and response.status_code != allowed:
            raise HttpResponseError(response=response)
        return response
