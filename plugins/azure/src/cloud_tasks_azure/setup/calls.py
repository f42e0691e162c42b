"""Requests to Resource Manager for the setup: missing resources, conflicts, and permissions that a person lacks.

Invariants, each with a test:

1. A missing permission is an error of one line that names the permission, its scope and whom to ask.
2. A conflict with another request, and what Azure does not know yet, is repeated for some minutes.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import cached_property
from threading import Event
from typing import Any, TypeVar

import attrs
from azure.core.exceptions import HttpResponseError

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_azure.compute.arm import Arm
from cloud_tasks_azure.compute.compute_errors import problem_of, translate_errors
from cloud_tasks_azure.credentials import MANAGEMENT_ENDPOINT, credential, is_emulator
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["Calls", "Principal", "code_of"]

_Result = TypeVar("_Result")

_TIMEOUT = timedelta(minutes=10)
_PAUSES = (1, 2, 4, 8, *[10] * 8)
"""Pauses before repetitions, in intervals of polls: nearly five minutes."""
_BUSY = ("StorageAccountIsNotProvisioned", "StorageAccountOperationInProgress")
_DENIED = re.compile(r".*perform action(?:\(s\))? '([^']+)'.*? scope(?:\(s\))? '([^']+)'", re.DOTALL)
"""Of a linked refusal, the missing permission is the last one."""
_ASK = (
    "ask an owner of the subscription for a role with it (Owner; or Contributor with User Access"
    " Administrator), or to run: cloud-tasks setup azure"
)


@attrs.frozen(kw_only=True)
class Principal:
    """A user, an application or an identity, which has roles."""

    id: str
    """Object id in the directory."""
    kind: str
    """``User`` or ``ServicePrincipal``."""


class Calls:
    """Requests of all items, with one client that is opened by the first of them."""

    def __init__(self, settings: AzureSettings) -> None:
        self.settings = settings

    @cached_property
    def arm(self) -> Arm:
        return Arm(self.settings)

    @cached_property
    def person(self) -> Principal:
        """Who is signed in, by the claims of the token: Resource Manager itself does not say."""
        endpoint = self.settings.management_endpoint
        scope = MANAGEMENT_ENDPOINT if is_emulator(endpoint) else (endpoint or MANAGEMENT_ENDPOINT).rstrip("/")
        with translate_errors("sign in"), closing(credential(self.settings)) as signed_in:
            claims = _claims(signed_in.get_token(f"{scope}/.default").token)
        if not claims.get("oid"):
            raise ProviderError("the token names no object id", hint="run: az login")
        kind = "ServicePrincipal" if claims.get("idtyp") == "app" else "User"
        return Principal(id=str(claims["oid"]), kind=kind)

    def find(self, path: str, version: str) -> dict[str, Any] | None:
        """Return a resource; None if it does not exist."""
        try:
            with _translated(f"read {_name(path)}"):
                return self.arm.get(path, version)
        except NotFoundError:
            return None

    def entries(self, path: str, version: str, **query: str) -> list[dict[str, Any]]:
        """Return all entries of a listing; none if its parent does not exist."""
        try:
            with _translated(f"list {_name(path)}"):
                return self.arm.entries(path, version, **query)
        except NotFoundError:
            return []

    def put(self, path: str, version: str, body: Mapping[str, Any], *, unknown: tuple[str, ...] = ()) -> None:
        """Create or replace a resource, and wait until it exists.

        Args:
            unknown: Codes of what Azure does not know yet.
        """

        def call() -> None:
            with _translated(f"make {_name(path)}"):
                self.arm.wait(self.arm.operation(self.arm.put(path, version, body)), timeout=_TIMEOUT)

        self.repeat(call, unknown)

    def patch(self, path: str, version: str, body: Mapping[str, Any]) -> None:
        """Change some properties of a resource."""

        def call() -> None:
            with _translated(f"change {_name(path)}"):
                self.arm.patch(path, version, body)

        self.repeat(call)

    def post(self, path: str, version: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call an action, and return its answer."""
        with _translated(f"call {_name(path)}"):
            return self.arm.post(path, version, body)

    def delete(self, path: str, version: str, *, unknown: tuple[str, ...] = ()) -> None:
        """Delete a resource, if it exists, and wait until it is gone."""

        def call() -> None:
            with _translated(f"delete {_name(path)}"):
                self.arm.wait(self.arm.operation(self.arm.delete(path, version)), timeout=_TIMEOUT)

        try:
            self.repeat(call, unknown)
        except NotFoundError:
            return

    def repeat(self, call: Callable[[], _Result], unknown: tuple[str, ...] = ()) -> _Result:
        """Return the result of a call, which is repeated while Azure is busy with another one."""
        for pause in _PAUSES:
            try:
                return call()
            except ProviderError as error:
                code = code_of(error)
                if not code or not (error.transient or code in (*_BUSY, *unknown)):
                    raise
            self.wait(pause)
        return call()

    def wait(self, pause: float = 1) -> None:
        """Wait for an interval of polls, or some of them."""
        Event().wait(pause * self.settings.operation_poll_seconds)


def code_of(error: ProviderError) -> str:
    """Return the code of an answer of Resource Manager; empty if there was none."""
    cause = error.__cause__
    return problem_of(cause).code if isinstance(cause, HttpResponseError) else ""


@contextmanager
def _translated(action: str) -> Iterator[None]:
    try:
        with translate_errors(action):
            yield
    except ProviderError as error:
        if code_of(error) not in ("AuthorizationFailed", "LinkedAuthorizationFailed"):
            raise
        # The message of the error is shortened.
        found = _DENIED.match(str(getattr(error.__cause__, "message", "")))
        if found is None:
            raise
        message = f"cannot {action}: the permission {found[1]} is missing in {found[2]}"
        raise ProviderError(message, hint=_ASK) from error.__cause__


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _claims(token: str) -> Mapping[str, Any]:
    payload = [*token.split("."), ""][1]
    try:
        found = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
