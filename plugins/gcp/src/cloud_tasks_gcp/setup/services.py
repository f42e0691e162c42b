"""The item of the services that a job calls, and that `doctor` and this setup call."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.plugin import SetupItem, TerraformBlock
from cloud_tasks_gcp.api_errors import api_error
from cloud_tasks_gcp.setup.account import Account, patiently

__all__ = ["services_item"]

_ALWAYS = ("compute", "storage", "cloudbilling", "cloudresourcemanager", "iam")
_FOR_QUEUES = ("pubsub", "monitoring")
_HTTP = {5: 404, 7: 403, 8: 429, 9: 400, 13: 500, 14: 503}
"""HTTP status by the code of an operation's error (``google/rpc/code.proto``)."""


class _RunningError(ProviderError):
    """The operation is not done."""


def services_item(account: Account, *, has_queues: bool) -> SetupItem:
    """Return the item of all services.

    Args:
        has_queues: Whether jobs have queues on Pub/Sub.
    """
    names = [f"{name}.googleapis.com" for name in (*_ALWAYS, *(_FOR_QUEUES if has_queues else ()))]
    return SetupItem(
        subject="services",
        purpose="the interfaces of Google Cloud that jobs, doctor and setup call",
        look=lambda: _look(account, names),
        make=lambda: _make(account, names),
        commands=(f"gcloud services enable {' '.join(names)} --project {shlex.quote(account.project)}",),
        terraform=tuple(
            TerraformBlock(
                kind="resource",
                labels=("google_project_service", name.partition(".")[0]),
                arguments={"project": account.project, "service": name, "disable_on_destroy": False},
            )
            for name in names
        ),
    )


def _missing(account: Account, names: Sequence[str]) -> list[str]:
    """Return the services that are not enabled."""
    asked = [f"{account.path}/services/{name}" for name in names]
    answer = account.usage(lambda rest: rest.get(f"v1/{account.path}/services:batchGet", names=asked))
    states = {str(each.get("name")).rpartition("/")[2]: each.get("state") for each in answer.get("services") or ()}
    return [name for name in names if states.get(name) != "ENABLED"]


def _look(account: Account, names: Sequence[str]) -> str:
    missing = _missing(account, names)
    return f"not enabled: {', '.join(missing)}" if missing else ""


def _make(account: Account, names: Sequence[str]) -> None:
    missing = _missing(account, names)
    if not missing:
        return
    body = {"serviceIds": missing}
    operation = account.usage(lambda rest: rest.post(f"v1/{account.path}/services:batchEnable", body))
    failures = patiently(lambda: _ended(account, operation), _RunningError).get("failures") or ()
    if failures:
        texts = (f"{each.get('serviceId')}: {each.get('errorMessage')}" for each in failures)
        raise InputError(f"services cannot be enabled: {'; '.join(texts)}", hint=f"run: {_console(account)}")


def _console(account: Account) -> str:
    return f"gcloud services list --available --project {shlex.quote(account.project)}"


def _ended(account: Account, operation: Any) -> Any:
    """Return the response of an operation. Raise `_RunningError` until it is done, or its error."""
    if not operation.get("done"):
        operation = account.usage(lambda rest: rest.get(f"v1/{operation['name']}"))
    if not operation.get("done"):
        raise _RunningError("the services are still being enabled", hint="run the command again")
    error = operation.get("error")
    if error:
        status = _HTTP.get(error.get("code"), 500)
        raise api_error(status, {"error": error}, service="serviceusage.googleapis.com", project=account.project)
    return operation.get("response") or {}
