"""The project as the doctor sees it, and how a question becomes a finding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import Finding
from cloud_tasks_gcp.credentials import credentials, is_stand_in, project_id
from cloud_tasks_gcp.rest import Rest
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["Account", "Answer", "finding", "not_asked", "open_account", "permissions"]

_ATTEMPTS = 2

Answer = Mapping[str, Any]


class Account:
    """The project as one of the checks sees it."""

    def __init__(self, settings: GcpSettings, project: str) -> None:
        self.settings = settings
        self.project = project

    def ask(self, endpoint: str, service: str, call: Callable[[Rest], Answer]) -> Answer:
        """One question. Raises `ProviderError`."""
        where = endpoint or f"https://{service}"
        with Rest(self.settings, where, service=service, project=self.project, attempts=_ATTEMPTS) as rest:
            return call(rest)

    def rehearses(self, endpoint: str, other: str) -> bool:
        """Whether a service is a stand-in, and there is none of another that would be asked about it."""
        return is_stand_in(endpoint) and not other

    def compute(self, path: str) -> Answer:
        where = f"compute/v1/projects/{self.project}{path}"
        return self.ask(self.settings.compute_endpoint, "compute.googleapis.com", lambda rest: rest.get(where))


def open_account(settings: GcpSettings, endpoint: str) -> tuple[Account | None, list[Finding]]:
    """The findings about credentials and project; no account where one of them is missing."""
    findings = []
    try:
        found: Any = credentials(settings, endpoint=endpoint or None)
        findings.append(Finding(ok=True, subject="credentials", message=_who(found, settings, endpoint)))
    except ProviderError as error:
        return None, [Finding(ok=False, subject="credentials", message=error.message, remedy=error.hint)]
    try:
        project = project_id(settings)
    except ProviderError as error:
        return None, [*findings, Finding(ok=False, subject="project", message=error.message, remedy=error.hint)]
    return Account(settings, project), findings


def _who(found: Any, settings: GcpSettings, endpoint: str) -> str:
    if is_stand_in(endpoint):
        return f"none are needed for {endpoint}"
    if settings.impersonate_service_account:
        return f"acting as {settings.impersonate_service_account}"
    email = getattr(found, "service_account_email", "")
    if email and email != "default":
        return f"of the service account {email}"
    if settings.credentials_file:
        return f"from {settings.credentials_file}"
    return "application default credentials"


def finding(
    subject: str, ask: Callable[[], Answer], tell: Callable[[Answer], str], *, keep: list[Answer] | None = None
) -> Finding:
    """Ask, and tell what came of it; the answer goes to ``keep``."""
    try:
        answer = ask()
    except ProviderError as error:
        return Finding(ok=False, subject=subject, message=error.message, remedy=error.hint)
    if keep is not None:
        keep.append(answer)
    return Finding(ok=True, subject=subject, message=tell(answer))


def permissions(account: Account, subject: str, wanted: Sequence[str]) -> Finding:
    service = "cloudresourcemanager.googleapis.com"
    path = f"v1/projects/{account.project}:testIamPermissions"
    body = {"permissions": list(wanted)}
    try:
        answer = account.ask(account.settings.resource_manager_endpoint, service, lambda rest: rest.post(path, body))
    except ProviderError as error:
        return not_asked(subject, error)
    missing = [each for each in wanted if each not in (answer.get("permissions") or ())]
    if not missing:
        return Finding(ok=True, subject=subject, message=f"all {len(wanted)} are there")
    return Finding(
        ok=False,
        subject=subject,
        message=f"{len(missing)} of {len(wanted)} are missing: {', '.join(missing)}",
        remedy="run: cloud-tasks doctor --provider gcp --policy, and give the account the controller's role",
    )


def not_asked(subject: str, error: ProviderError) -> Finding:
    return Finding(ok=True, subject=subject, message=f"could not be asked: {error.message}", remedy=error.hint)
