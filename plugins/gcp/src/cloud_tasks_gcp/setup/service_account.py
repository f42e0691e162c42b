"""The item of the service account of instances."""

from __future__ import annotations

import shlex
from contextlib import suppress

import attrs

from cloud_tasks.errors import InputError, NotFoundError
from cloud_tasks.plugin import SetupItem, TerraformBlock, TerraformExpression
from cloud_tasks_gcp.api_errors import DeniedError
from cloud_tasks_gcp.permissions import WORKER_TITLE, worker_address
from cloud_tasks_gcp.settings import GcpSettings
from cloud_tasks_gcp.setup.account import MARK, Account, Resource, if_enabled, patiently

__all__ = ["ServiceAccount"]

_DESCRIPTION = f"{MARK}identity of instances"


@attrs.frozen(kw_only=True)
class ServiceAccount:
    """A service account, of this project or another one."""

    account: Account
    address: str

    @property
    def member(self) -> str:
        """Its name in policies."""
        return f"serviceAccount:{self.address}"

    @property
    def path(self) -> str:
        """Path of its resource. The wildcard makes another error of a missing account, so it is for others only."""
        where = self.account.path if self._is_local else "projects/-"
        return f"v1/{where}/serviceAccounts/{self.address}"

    @property
    def terraform(self) -> TerraformExpression | str:
        """Its name in policies of Terraform."""
        return TerraformExpression("google_service_account.worker.member") if self._is_local else self.member

    @property
    def _is_local(self) -> bool:
        """Whether an account of this address can be made in the project."""
        home = worker_address(GcpSettings(), self.account.project).partition("@")[2]
        return self.address.partition("@")[2] == home

    def item(self) -> SetupItem:
        identity = self.address.partition("@")[0]
        project = self.account.project
        create = ("gcloud", "iam", "service-accounts", "create", identity, "--project", project)
        describe = shlex.join(("gcloud", "iam", "service-accounts", "describe", self.address, "--project", project))
        texts = ("--display-name", WORKER_TITLE, "--description", _DESCRIPTION)
        block = TerraformBlock(
            kind="resource",
            labels=("google_service_account", "worker"),
            arguments={
                "project": project,
                "account_id": identity,
                "display_name": WORKER_TITLE,
                "description": _DESCRIPTION,
                "depends_on": (TerraformExpression("google_project_service.iam"),),
            },
        )
        return SetupItem(
            subject=f"service account {self.address}",
            purpose="the identity of instances, with the permissions of a worker only",
            look=if_enabled(self._look),
            make=lambda: patiently(self._make),
            remove=if_enabled(self._remove),
            commands=(f"{describe} >/dev/null 2>&1 || {shlex.join((*create, *texts))}",) if self._is_local else (),
            terraform=(block,) if self._is_local else (),
        )

    def is_ours(self) -> bool:
        """Return whether `setup` made it."""
        found = self._read()
        return found is not None and str(found.get("description") or "").startswith(MARK)

    def _read(self) -> Resource | None:
        try:
            return self.account.iam(lambda rest: rest.get(self.path))
        except NotFoundError:
            return None
        except DeniedError:
            if self._is_local:
                raise
            return {}  # that of another project need not be readable for those who may use it

    def _look(self) -> str:
        found = self._read()
        return "missing" if found is None else "disabled" if found.get("disabled") else ""

    def _make(self) -> None:
        """Create the account if it is missing. Raise `ConflictError` if that was done meanwhile."""
        found = self._read()
        if found is None:
            self._create()
        elif found.get("disabled"):
            enable = f"gcloud iam service-accounts enable {shlex.quote(self.address)}"
            raise InputError(
                f"service account {self.address} was disabled by a person",
                hint=f"run: {enable} --project {shlex.quote(self.account.project)}, or set gcp.service_account",
            )

    def _create(self) -> None:
        if not self._is_local:
            raise InputError(f"service account {self.address} not found", hint="check gcp.service_account")
        body = {
            "accountId": self.address.partition("@")[0],
            "serviceAccount": {"displayName": WORKER_TITLE, "description": _DESCRIPTION},
        }
        self.account.iam(lambda rest: rest.post(f"v1/{self.account.path}/serviceAccounts", body))
        # A new account is not found everywhere at once; some of Google's servers then answer with a denial.
        patiently(lambda: self.account.iam(lambda rest: rest.get(self.path)), NotFoundError, DeniedError)

    def _remove(self) -> str:
        if self._read() is None:
            return ""
        if not self.is_ours():
            return "another program or person made it"
        uses = self._uses()
        if not uses:
            with suppress(NotFoundError):
                self.account.iam(lambda rest: rest.delete(self.path))
        return uses

    def _uses(self) -> str:
        """Return what else the account is used for."""
        query = {"keyTypes": "USER_MANAGED"}
        keys = self.account.iam(lambda rest: rest.get(f"{self.path}/keys", **query)).get("keys") or ()
        if keys:
            return f"has {len(keys)} key{'' if len(keys) == 1 else 's'}"
        policy = self.account.manager(
            lambda rest: rest.post(f"v1/{self.account.path}:getIamPolicy", {"options": {"requestedPolicyVersion": 3}})
        )
        bindings = policy.get("bindings") or ()
        roles = sorted({str(each["role"]) for each in bindings if self.member in (each.get("members") or ())})
        if roles:
            return f"has also {', '.join(roles)}"
        count = self._instances()
        return f"{count} instance{' has' if count == 1 else 's have'} it" if count else ""

    def _instances(self) -> int:
        """Return the number of instances of cloud-tasks with this account."""
        from cloud_tasks_gcp.compute.clients import Clients
        from cloud_tasks_gcp.compute.labels import job_filter
        from cloud_tasks_gcp.compute.listing import all_instances

        clients = Clients(self.account.settings, self.account.project)
        try:
            found, _ = all_instances(clients, self.account.project, job_filter(None), lambda place: True)
        finally:
            clients.close()
        return sum(any(own.email == self.address for own in each.service_accounts) for each in found)
