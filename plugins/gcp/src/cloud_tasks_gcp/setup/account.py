"""The project of a setup: requests to its services, and patience until they show what was made a moment ago."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import attrs
from google.api_core.exceptions import RetryError
from google.api_core.retry import Retry

from cloud_tasks.errors import ProviderError
from cloud_tasks_gcp.api_errors import ConflictError, DeniedError, DisabledError, UnknownNameError
from cloud_tasks_gcp.rest import Rest
from cloud_tasks_gcp.settings import GcpSettings
from cloud_tasks_gcp.staging import storage_endpoint

__all__ = ["LABEL", "MARK", "Account", "Resource", "if_enabled", "patiently"]

LABEL = "cloud-tasks-setup"
"""Label of what ``setup`` makes; its value is ``1``."""
MARK = "cloud-tasks setup: "
"""Start of the description of what ``setup`` makes where there are no labels."""

PATIENCE = 240.0
"""Seconds to wait until a change is visible: services take minutes, accounts and roles mostly seconds."""
PAUSE = 1.0
"""Seconds before the first repetition."""

_T = TypeVar("_T")
Resource = Mapping[str, Any]


@attrs.frozen(kw_only=True)
class Account:
    """A project, and the settings with which its services are called."""

    settings: GcpSettings
    project: str

    @property
    def path(self) -> str:
        """``projects/PROJECT`` as part of a URL."""
        return f"projects/{quote(self.project, safe=':')}"

    def usage(self, call: Callable[[Rest], _T]) -> _T:
        return self._call("serviceusage", self.settings.service_usage_endpoint, call)

    def iam(self, call: Callable[[Rest], _T]) -> _T:
        return self._call("iam", self.settings.iam_endpoint, call)

    def manager(self, call: Callable[[Rest], _T]) -> _T:
        return self._call("cloudresourcemanager", self.settings.resource_manager_endpoint, call)

    def storage(self, call: Callable[[Rest], _T]) -> _T:
        return self._call("storage", storage_endpoint(self.settings), call, sets_quota_project=False)

    def compute(self, call: Callable[[Rest], _T]) -> _T:
        return self._call("compute", self.settings.compute_endpoint, call, sets_quota_project=False)

    def _call(self, name: str, endpoint: str, call: Callable[[Rest], _T], *, sets_quota_project: bool = True) -> _T:
        service = f"{name}.googleapis.com"
        where = endpoint or f"https://{service}"
        with Rest(
            self.settings, where, service=service, project=self.project, sets_quota_project=sets_quota_project
        ) as rest:
            try:
                return call(rest)
            except DeniedError as error:
                hint = f"ask an owner of project {self.project} for it, or to run the command"
                raise DeniedError(error.message, hint=hint) from error


def if_enabled(function: Callable[[], str]) -> Callable[[], str]:
    """Return a `SetupItem.look` or `remove` that reports a service that is not enabled, instead of failing."""

    def call() -> str:
        try:
            return function()
        except DisabledError as error:
            return error.message

    return call


def patiently(call: Callable[[], _T], *others: type[ProviderError], patience: float | None = None) -> _T:
    """Repeat a call that reads before it writes, while what it needs is being changed or was made a moment ago.

    Args:
        others: Errors that mean this, beyond those that always do.
        patience: Time limit in seconds; None for `PATIENCE`.
    """
    expected: tuple[type[ProviderError], ...] = (ConflictError, DisabledError, UnknownNameError, *others)
    retry = Retry(
        predicate=lambda error: isinstance(error, expected),
        initial=PAUSE,
        maximum=10 * PAUSE,
        multiplier=1.5,
        timeout=PATIENCE if patience is None else patience,
    )
    try:
        return retry(call)()
    except RetryError as error:
        raise error.cause or error from None
