"""Account of the doctor's checks, and conversion of API responses to findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import Finding
from cloud_tasks_gcp.api_errors import DeniedError
from cloud_tasks_gcp.credentials import credentials, is_emulator, project_id
from cloud_tasks_gcp.rest import Rest
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["Account", "Answer", "check_permissions", "failed", "finding", "open_account", "skipped"]

_ATTEMPTS = 2

Answer = Mapping[str, Any]


class Account:
    """Project and settings of the checks."""

    def __init__(self, settings: GcpSettings, project: str) -> None:
        self.settings = settings
        self.project = project

    def request(self, endpoint: str, service: str, call: Callable[[Rest], Answer]) -> Answer:
        """Call a service, with few retries. Raise `ProviderError`."""
        where = endpoint or f"https://{service}"
        with Rest(self.settings, where, service=service, project=self.project, attempts=_ATTEMPTS) as rest:
            return call(rest)

    def skips(self, endpoint: str, other: str) -> bool:
        """Return whether a check of ``other`` has to be skipped: ``endpoint`` is an emulator and ``other`` has no
        address."""
        return is_emulator(endpoint) and not other

    def compute(self, path: str) -> Answer:
        where = f"compute/v1/projects/{self.project}{path}"
        return self.request(self.settings.compute_endpoint, "compute.googleapis.com", lambda rest: rest.get(where))


def open_account(settings: GcpSettings, endpoint: str) -> tuple[Account | None, list[Finding]]:
    """Check credentials and project; the account is None when one of them is missing."""
    findings = []
    try:
        found: Any = credentials(settings, endpoint=endpoint or None)
        findings.append(Finding(ok=True, subject="credentials", message=_identity(found, settings, endpoint)))
    except ProviderError as error:
        return None, [failed("credentials", error)]
    try:
        project = project_id(settings)
    except ProviderError as error:
        return None, [*findings, failed("project", error)]
    return Account(settings, project), findings


def _identity(found: Any, settings: GcpSettings, endpoint: str) -> str:
    if is_emulator(endpoint):
        return f"not needed for the emulator at {endpoint}"
    if settings.impersonate_service_account:
        return f"impersonating {settings.impersonate_service_account}"
    email = getattr(found, "service_account_email", "")
    if email and email != "default":
        return f"service account {email}"
    if settings.credentials_file:
        return f"credentials file {settings.credentials_file}"
    return "application default credentials"


def finding(
    subject: str, request: Callable[[], Answer], describe: Callable[[Answer], str], *, keep: list[Answer] | None = None
) -> Finding:
    """Return the finding of one request.

    Args:
        request: Sends the request.
        describe: Returns the message of a successful response.
        keep: Collects the response.
    """
    try:
        answer = request()
    except ProviderError as error:
        return failed(subject, error)
    if keep is not None:
        keep.append(answer)
    return Finding(ok=True, subject=subject, message=describe(answer))


def failed(subject: str, error: ProviderError) -> Finding:
    """Return the finding of a failed request. A run may work without the permission for it, and after an outage."""
    is_certain = not error.transient and not isinstance(error, DeniedError)
    return Finding(ok=False, subject=subject, message=error.message, remedy=error.hint, prevents_run=is_certain)


def check_permissions(account: Account, subject: str, required: Sequence[str], *, essential: Sequence[str]) -> Finding:
    """Check permissions on the project.

    Args:
        essential: Those that cannot be granted on anything smaller than the project, without which a run cannot work.
    """
    service = "cloudresourcemanager.googleapis.com"
    path = f"v1/projects/{account.project}:testIamPermissions"
    body = {"permissions": list(required)}
    try:
        answer = account.request(
            account.settings.resource_manager_endpoint, service, lambda rest: rest.post(path, body)
        )
    except ProviderError as error:
        return skipped(subject, error)
    missing = [each for each in required if each not in (answer.get("permissions") or ())]
    if not missing:
        return Finding(ok=True, subject=subject, message=f"all {len(required)} granted")
    return Finding(
        ok=False,
        subject=subject,
        message=f"{len(missing)} of {len(required)} missing: {', '.join(missing)}",
        remedy="run: cloud-tasks doctor --provider gcp --policy, and grant the account the controller's role",
        prevents_run=not set(essential).isdisjoint(missing),
    )


def skipped(subject: str, error: ProviderError) -> Finding:
    return Finding(ok=True, subject=subject, message=f"not checked: {error.message}", remedy=error.hint)
