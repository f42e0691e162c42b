"""Client of Azure Resource Manager: requests in JSON, pages of listings, and operations. Thread-safe.

Requests go through the pipeline of ``azure-core``. Each names the API version that its caller was written for, so an
update of a library changes no request.

Invariants, each with a test:

1. No call waits longer than the caller's patience: pauses that Azure asks for (``Retry-After``, up to 45 minutes) are
   the controller's business. A throttled or refused request is never repeated here.
2. A listing has all pages, or an error is raised.
3. An operation that failed raises the error that Azure names for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

from azure.core.exceptions import HttpResponseError
from azure.core.pipeline import policies
from azure.core.rest import HttpRequest, HttpResponse
from azure.mgmt.core import ARMPipelineClient
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy, ARMHttpLoggingPolicy

from cloud_tasks.errors import ProviderError
from cloud_tasks_azure.credentials import MANAGEMENT_ENDPOINT, credential, is_emulator, subscription_id
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["COMPUTE", "DISKS", "NETWORK", "RESOURCES", "SKUS", "Arm"]

# API versions of the resource providers. They decide what a request may contain and what a response has.
COMPUTE = "2024-07-01"
DISKS = "2024-03-02"
NETWORK = "2024-05-01"
RESOURCES = "2021-04-01"
SKUS = "2021-07-01"

_RETRIES = 3
_MAX_PAUSE = 5
"""Seconds between two attempts; the controller repeats calls as well."""
_CONNECT_TIMEOUT, _READ_TIMEOUT = 10, 60
"""Seconds."""
_POLL_LIMIT = 30.0
"""Longest pause between two polls of an operation in seconds, whatever Azure asks for."""
_UNKNOWN = (404, 408, 429, 500, 502, 503, 504)
"""Statuses of a poll that say nothing about the operation."""
_RUNNING = ("inprogress", "accepted", "running", "updating", "creating", "deleting", "notstarted")


class _Retries(policies.RetryPolicy[Any, Any]):
    """Repeats requests that Azure did not judge: no connection, no response, a server error."""

    def is_retry(self, settings: dict[str, Any], response: Any) -> bool:
        # The library's own policy repeats every refusal with a Retry-After header, and sleeps for that time.
        status = response.http_response.status_code
        return (status == 408 or status >= 500) and bool(settings["total"])

    def get_retry_after(self, response: Any) -> float | None:
        pause = super().get_retry_after(response)
        return None if pause is None else min(pause, _MAX_PAUSE)


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
        emulated = is_emulator(settings.management_endpoint)
        signed = [] if emulated else [ARMChallengeAuthenticationPolicy(self._credential, f"{self.endpoint}/.default")]
        retries = _Retries(
            retry_total=_RETRIES, retry_backoff_factor=0.02 if emulated else 0.8, retry_backoff_max=_MAX_PAUSE
        )
        self._client: ARMPipelineClient[HttpRequest, HttpResponse] = ARMPipelineClient(
            self.endpoint,
            policies=[
                policies.RequestIdPolicy(),
                policies.HeadersPolicy(),
                policies.UserAgentPolicy("cloud-tasks"),
                policies.ProxyPolicy(),
                policies.RedirectPolicy(),
                retries,
                *signed,
                policies.SensitiveHeaderCleanupPolicy(),
                ARMHttpLoggingPolicy(),
            ],
            connection_timeout=_CONNECT_TIMEOUT,
            read_timeout=_READ_TIMEOUT,
        )
        self._closed = threading.Event()

    # Requests. Paths without ``/subscriptions/`` are below the subscription. All raise the exceptions of azure-core.

    def get(self, path: str, version: str, **query: str) -> dict[str, Any]:
        """Return a resource."""
        return _json(self._send("GET", self._url(path, version, query)))

    def exists(self, path: str, version: str) -> bool:
        """Return whether a resource group exists."""
        return self._send("HEAD", self._url(path, version, {}), allowed=(404,)).status_code != 404

    def entries(self, path: str, version: str, **query: str) -> list[dict[str, Any]]:
        """Return all entries of a listing."""
        return list(self.iterate(path, version, **query))

    def iterate(self, path: str, version: str, **query: str) -> Iterator[dict[str, Any]]:
        """Yield the entries of a listing, page by page."""
        url: str | None = self._url(path, version, query)
        while url:
            page = _json(self._send("GET", url))
            if not isinstance(page.get("value"), list):
                raise _invalid()
            yield from page["value"]
            url = page.get("nextLink")

    def array(self, path: str, version: str) -> list[dict[str, Any]]:
        """Return a plain array, which has no pages."""
        found = self._send("GET", self._url(path, version, {})).json()
        if not isinstance(found, list):
            raise _invalid()
        return found

    def post(self, path: str, version: str) -> dict[str, Any]:
        """Carry out an action and return its result."""
        return _json(self._send("POST", self._url(path, version, {})))

    def put(self, path: str, version: str, body: Mapping[str, Any], *, only_new: bool = False) -> HttpResponse:
        """Create or update a resource and return the response, for `wait`.

        Args:
            only_new: Fail with HTTP 412 if the resource exists.
        """
        headers = {"If-None-Match": "*"} if only_new else {}
        return self._send("PUT", self._url(path, version, {}), json=dict(body), headers=headers)

    def delete(self, path: str, version: str, **query: str) -> HttpResponse:
        """Begin to delete a resource and return the response, for `wait`. A missing resource is no error."""
        return self._send("DELETE", self._url(path, version, query), allowed=(404,))

    # Operations

    def wait(self, response: HttpResponse, *, timeout: timedelta) -> None:
        """Wait for the operation that a response began.

        Raises:
            TimeoutError: It is still running.
            HttpResponseError: It failed.
        """
        deadline = time.monotonic() + timeout.total_seconds()
        while self.is_running(response):
            pause = self._pause(response)
            if time.monotonic() + pause > deadline or self._closed.wait(pause):
                raise TimeoutError("the operation is still running")
            response = self.poll(response)

    def poll(self, response: HttpResponse) -> HttpResponse:
        """Return the present state of the operation. Raises `HttpResponseError` if it failed."""
        url = _operation_url(response)
        if url is None:
            return response
        answer = self._send("GET", url, allowed=_UNKNOWN)
        if answer.status_code in _UNKNOWN:
            # Throttled or failed: the poll, not the operation. Without an operation, the caller reads the resource.
            return answer if answer.status_code == 404 else response
        status = _status_of(answer)
        if status and status not in (*_RUNNING, "succeeded"):
            raise HttpResponseError(response=answer)
        for name in ("Azure-AsyncOperation", "Location"):
            # A later response may leave out the address of the operation.
            if name in response.headers and name not in answer.headers and answer.status_code != 204:
                answer.headers[name] = response.headers[name]
        return answer

    @staticmethod
    def is_running(response: HttpResponse) -> bool:
        """Return whether a response says that its operation is still running."""
        if response.status_code == 202:
            return True
        if response.status_code == 201:
            return _operation_url(response) is not None
        return response.request.method == "GET" and _status_of(response) in _RUNNING

    def _pause(self, response: HttpResponse) -> float:
        asked = response.headers.get("Retry-After", "")
        return min(float(asked), _POLL_LIMIT) if asked.isdigit() else self.poll_seconds

    def close(self) -> None:
        """Close connections and interrupt waits; idempotent."""
        if not self._closed.is_set():
            self._closed.set()
            self._client.close()
            self._credential.close()

    def _url(self, path: str, version: str, query: Mapping[str, str]) -> str:
        full = path if path.startswith("/subscriptions/") else f"/subscriptions/{self.subscription}{path}"
        names = {"$filter" if name == "filter" else name: text for name, text in query.items()}
        text = urlencode({"api-version": version, **names}, quote_via=quote)
        return f"{self.endpoint}{quote(full, safe='/')}?{text}"

    def _send(self, method: str, url: str, *, allowed: tuple[int, ...] = (), **options: Any) -> HttpResponse:
        if self._closed.is_set():
            raise ProviderError("the connection to Azure is closed")
        response = self._client.send_request(HttpRequest(method, url, **options))
        if response.status_code >= 400 and response.status_code not in allowed:
            raise HttpResponseError(response=response)
        return response


def _operation_url(response: HttpResponse) -> str | None:
    headers = response.headers
    return headers.get("Azure-AsyncOperation") or headers.get("Location")


def _status_of(response: HttpResponse) -> str:
    """Return the status of an operation in lower case; empty if the response has none."""
    try:
        return str(_json(response).get("status") or "").lower()
    except ProviderError:
        return ""


def _json(response: HttpResponse) -> dict[str, Any]:
    try:
        content = response.json()
    except ValueError as error:
        raise _invalid() from error
    if not isinstance(content, dict):
        raise _invalid()
    return content


def _invalid() -> ProviderError:
    # As from a proxy.
    return ProviderError("invalid response from Azure", transient=True)
