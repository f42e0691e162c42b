"""The account that the checks use, its requests, and checks that several services need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from cloud_tasks.errors import CloudTasksError, InputError, ProviderError
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.plugin.kit import DoubtError, Probe, is_certain, run_probes
from cloud_tasks_gcp.api_errors import DeniedError
from cloud_tasks_gcp.credentials import credentials, is_emulator, project_id
from cloud_tasks_gcp.rest import Rest
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["Answer", "Checks"]

_ATTEMPTS = 2

Answer = Mapping[str, Any]


class Checks(ABC):
    """Checks of one service.

    Args:
        endpoint: Endpoint of the service; empty for Google's.
    """

    def __init__(self, settings: GcpSettings, context: CheckContext, endpoint: str) -> None:
        self.settings = settings
        self.context = context
        self.endpoint = endpoint
        self.project = ""
        self.failed: set[str] = set()
        """Subjects of the checks so far that have failed."""
        self._skipped: set[str] = set()

    def findings(self) -> Iterator[Finding]:
        """Make the checks; one that cannot be made is reported, and is no failure."""
        for finding in run_probes(self._all_probes()):
            if finding.subject in self._skipped:
                finding = attrs.evolve(finding, ok=True, prevents_run=False)
            elif not finding.ok:
                self.failed.add(finding.subject)
            yield finding

    @abstractmethod
    def probes(self) -> Iterator[Probe]:
        """Yield the checks of the service. The former ones have been made when the next is taken."""

    def _all_probes(self) -> Iterator[Probe]:
        yield self.probe("credentials", self._identity)
        if not self.failed:
            yield self.probe("project", self._find_project)
        if not self.failed:
            yield from self.probes()

    def _identity(self) -> str:
        found: Any = credentials(self.settings, endpoint=self.endpoint or None)
        if is_emulator(self.endpoint):
            return f"not needed for the emulator at {self.endpoint}"
        if self.settings.impersonate_service_account:
            return f"impersonating {self.settings.impersonate_service_account}"
        email = getattr(found, "service_account_email", "")
        if email and email != "default":
            return f"service account {email}"
        if self.settings.credentials_file:
            return f"credentials file {self.settings.credentials_file}"
        return "application default credentials"

    def _find_project(self) -> str:
        self.project = project_id(self.settings)
        return self.project

    def probe(self, subject: str, look: Callable[[], str]) -> Probe:
        """Return a check. A run may work without the permission for it."""
        return Probe(subject=subject, look=look, prevents_run=_prevents_run)

    def optional(self, subject: str, look: Callable[[], str], *, skipped: str = "not checked") -> Probe:
        """Return a check that is skipped, with this text, if its requests fail."""

        def look_if_possible() -> str:
            try:
                return look()
            except ProviderError as error:
                self._skipped.add(subject)
                raise ProviderError(f"{skipped}: {error.message}", hint=error.hint) from error

        return self.probe(subject, look_if_possible)

    def has(self, other: str) -> bool:
        """Return whether a service can be called: this one is no emulator, or ``other`` has an endpoint."""
        return not is_emulator(self.endpoint) or bool(other)

    def request(self, endpoint: str, service: str, call: Callable[[Rest], Answer]) -> Answer:
        """Call a service, with few retries. Raise `ProviderError`."""
        where = endpoint or f"https://{service}"
        with Rest(self.settings, where, service=service, project=self.project, attempts=_ATTEMPTS) as rest:
            return call(rest)

    def manage(self, method: str, body: Answer) -> Answer:
        """Call a method of the project at Cloud Resource Manager."""
        endpoint, path = self.settings.resource_manager_endpoint, f"v1/projects/{self.project}:{method}"
        return self.request(endpoint, "cloudresourcemanager.googleapis.com", lambda rest: rest.post(path, body))

    def check_permissions(self, required: Sequence[str], *, essential: Sequence[str]) -> str:
        """Check permissions on the project.

        Args:
            essential: Those that cannot be granted on anything smaller than the project, without which a run cannot
                work.
        """
        answer = self.manage("testIamPermissions", {"permissions": list(required)})
        missing = [each for each in required if each not in (answer.get("permissions") or ())]
        if not missing:
            return f"all {len(required)} granted"
        raise (DoubtError if set(essential).isdisjoint(missing) else InputError)(
            f"{len(missing)} of {len(required)} missing: {', '.join(missing)}",
            hint="run: cloud-tasks doctor --provider gcp --policy, and grant the account the controller's role",
        )


def _prevents_run(error: CloudTasksError) -> bool:
    return is_certain(error) and not isinstance(error, DeniedError)
