"""Google's JSON APIs over HTTPS, for the few calls that need no SDK: prices, and the doctor's questions.

Invariants, each with a test: no exception of google-auth or requests comes out of here, and no token is in a text.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import google.auth.exceptions
import requests
from google.api_core.exceptions import RetryError
from google.api_core.retry import Retry
from google.auth.transport.requests import AuthorizedSession

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_gcp.credentials import auth_failure, credentials
from cloud_tasks_gcp.explain import explain
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["Rest"]

_TIMEOUT = (10, 60)
"""Seconds to connect, and between two pieces of an answer."""
_PATIENCE = 120.0
"""Seconds after which a call is not tried again."""


class Rest:
    """Calls to one service. Not thread-safe: as requests' sessions are.

    Args:
        endpoint: Scheme and host, e.g. ``https://cloudbilling.googleapis.com``.
        service: The service's name, for explanations and remedies.
        project: The project that is worked in; for a person's own credentials also the one that is asked for quota.
        attempts: How often a call is tried that fails for a passing reason.
    """

    def __init__(
        self, settings: GcpSettings, endpoint: str, *, service: str, project: str = "", attempts: int = 5
    ) -> None:
        self._settings = settings
        self._endpoint = endpoint.rstrip("/")
        self._service = service
        self._project = project
        self._attempts = attempts
        own: Any = credentials(settings, endpoint=endpoint)
        if project and hasattr(own, "with_quota_project") and _is_person(own):
            own = own.with_quota_project(project)
        self._session: Any = AuthorizedSession(own)

    def get(self, path: str, **query: str) -> Mapping[str, Any]:
        """Ask for a resource. Raises `ProviderError`, `NotFoundError`."""
        return self._call("GET", path, params=query)

    def post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Call a method that changes nothing, such as `testIamPermissions`. Raises `ProviderError`, `NotFoundError`."""
        return self._call("POST", path, json=body)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def _call(self, method: str, path: str, **what: Any) -> Mapping[str, Any]:
        failures = itertools.count(1)
        again = Retry(
            predicate=lambda error: _passes(error) and next(failures) < self._attempts,
            initial=0.2,
            maximum=5.0,
            multiplier=2.0,
            timeout=_PATIENCE,
        )
        try:
            answer: Mapping[str, Any] = again(self._try)(method, path, **what)
        except RetryError as error:
            raise ProviderError(f"{self._service} did not answer in time", transient=True) from error
        return answer

    def _try(self, method: str, path: str, **what: Any) -> Mapping[str, Any]:
        try:
            answer = self._session.request(method, f"{self._endpoint}/{path}", timeout=_TIMEOUT, **what)
        except google.auth.exceptions.GoogleAuthError as error:
            raise auth_failure(error, self._settings) from error
        except requests.exceptions.RequestException as error:
            host = urlsplit(self._endpoint).netloc
            raise ProviderError(
                f"{host} cannot be reached: {type(error).__name__}", transient=True, hint="check the network"
            ) from error
        try:
            content = answer.json()
        except ValueError:
            content = None
        if answer.status_code == 200 and isinstance(content, Mapping):
            return content
        if answer.status_code == 200:
            raise ProviderError(f"{self._service} answered with something that is not JSON", transient=True)
        why = explain(answer.status_code, content, service=self._service, project=self._project)
        kind = NotFoundError if answer.status_code == 404 else ProviderError
        raise kind(why.message, transient=why.transient, hint=why.remedy)


def _is_person(own: Any) -> bool:
    """Whether credentials are a person's, without a project that their quota comes from."""
    return type(own).__module__ == "google.oauth2.credentials" and not own.quota_project_id


def _passes(error: BaseException) -> bool:
    return isinstance(error, ProviderError) and error.transient
