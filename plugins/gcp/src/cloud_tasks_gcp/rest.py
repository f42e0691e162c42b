"""Client of Google's JSON APIs over HTTPS, for the few calls without an SDK: prices, doctor checks, lists of all zones,
and what ``cloud-tasks setup`` makes.

A call that failed for the time being is repeated, whatever its method: after a lost response, the repetition of a write
finds its effect, and raises `ConflictError` (made already, another etag) or `NotFoundError` (deleted already).

Invariants, each with a test: no exception of google-auth or requests leaves this module, and no token is in a message.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Self
from urllib.parse import urlsplit

import google.auth.exceptions
import requests
from google.api_core.exceptions import RetryError
from google.api_core.retry import Retry
from google.auth.transport.requests import AuthorizedSession

from cloud_tasks.errors import ProviderError
from cloud_tasks_gcp.api_errors import api_error
from cloud_tasks_gcp.credentials import auth_failure, credentials
from cloud_tasks_gcp.renewed_credentials import RenewedCredentials
from cloud_tasks_gcp.responses import PROXY, InvalidResponseError, check_responses
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["Rest"]

_TIMEOUT = (10, 60)
"""Connect timeout and read timeout in seconds."""
_PAUSE = 0.2
"""Pause before the first repetition of a call, in seconds."""
_TOTAL_TIMEOUT = 120.0
"""Time limit of a call with its retries, in seconds."""


class Rest:
    """Calls to one service. Not thread-safe, like the sessions of requests.

    Args:
        endpoint: Scheme and host: ``https://cloudbilling.googleapis.com``.
        service: Service name, for messages and remedies.
        project: Project id for remedies; with user credentials also the quota project.
        sets_quota_project: False for an API whose calls count against the project of the resource.
        attempts: Maximum number of attempts for transient errors.
    """

    def __init__(
        self,
        settings: GcpSettings,
        endpoint: str,
        *,
        service: str,
        project: str = "",
        sets_quota_project: bool = True,
        attempts: int = 5,
    ) -> None:
        self._settings = settings
        self._endpoint = endpoint.rstrip("/")
        self._service = service
        self._project = project
        self._attempts = attempts
        own: Any = credentials(settings, endpoint=endpoint)
        if project and sets_quota_project and hasattr(own, "with_quota_project") and _is_user(own):
            own = own.with_quota_project(project)
        self._session: Any = AuthorizedSession(own)
        check_responses(self._session)

    def get(self, path: str, **query: str | Sequence[str]) -> Mapping[str, Any]:
        """Read a resource. Raise `ProviderError` or `NotFoundError`."""
        return self._call("GET", path, params=query)

    def post(self, path: str, body: Mapping[str, Any], **query: str) -> Mapping[str, Any]:
        """Call a method, or create a resource. Raise `ProviderError`, `NotFoundError` or `ConflictError`."""
        return self._call("POST", path, json=body, params=query)

    def put(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Replace a resource. Raise as `post`."""
        return self._call("PUT", path, json=body)

    def patch(self, path: str, body: Mapping[str, Any], **query: str) -> Mapping[str, Any]:
        """Change fields of a resource. Raise as `post`."""
        return self._call("PATCH", path, json=body, params=query)

    def delete(self, path: str, **query: str) -> Mapping[str, Any]:
        """Delete a resource. Raise as `post`."""
        return self._call("DELETE", path, params=query)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._session.close()

    def _call(self, method: str, path: str, **options: Any) -> Mapping[str, Any]:
        failures = itertools.count(1)
        retry = Retry(
            predicate=lambda error: _is_transient(error) and next(failures) < self._attempts,
            initial=_PAUSE,
            maximum=5.0,
            multiplier=2.0,
            timeout=_TOTAL_TIMEOUT,
        )
        try:
            answer: Mapping[str, Any] = retry(self._try)(method, path, **options)
        except RetryError as error:
            raise ProviderError(f"{self._service} timed out", transient=True) from error
        return answer

    def _try(self, method: str, path: str, **options: Any) -> Mapping[str, Any]:
        try:
            answer = self._session.request(method, f"{self._endpoint}/{path}", timeout=_TIMEOUT, **options)
        except google.auth.exceptions.GoogleAuthError as error:
            raise auth_failure(error, self._settings) from error
        except InvalidResponseError as error:
            raise ProviderError(str(error), transient=True, hint=PROXY) from error
        except requests.exceptions.RequestException as error:
            host = urlsplit(self._endpoint).netloc
            raise ProviderError(
                f"cannot reach {host}: {type(error).__name__}", transient=True, hint="check the network"
            ) from error
        try:
            content = answer.json() if answer.content else {}
        except ValueError:
            content = None
        if answer.status_code in (200, 204) and isinstance(content, Mapping):
            return content
        raise api_error(answer.status_code, content, service=self._service, project=self._project)


def _is_user(own: Any) -> bool:
    """Return whether the credentials belong to a user and have no quota project."""
    return isinstance(own, RenewedCredentials) and not own.quota_project_id


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, ProviderError) and error.transient
