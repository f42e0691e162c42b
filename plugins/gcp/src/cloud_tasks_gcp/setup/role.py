"""The item of the custom role of workers."""

from __future__ import annotations

import shlex

import attrs

from cloud_tasks.errors import InputError, NotFoundError, ProviderError
from cloud_tasks.plugin import SetupItem, TerraformBlock, TerraformExpression
from cloud_tasks_gcp.permissions import WORKER, WORKER_ROLE, WORKER_TITLE, worker_address
from cloud_tasks_gcp.setup.account import MARK, Account, Resource, if_enabled, patiently

__all__ = ["Role"]

_DESCRIPTION = f"{MARK}receives tasks and sends their events"


@attrs.frozen(kw_only=True)
class Role:
    """The role in a project."""

    account: Account

    @property
    def name(self) -> str:
        """Its name in policies."""
        return f"projects/{self.account.project}/roles/{WORKER_ROLE}"

    @property
    def _path(self) -> str:
        return f"v1/{self.account.path}/roles/{WORKER_ROLE}"

    def item(self) -> SetupItem:
        project = self.account.project
        describe = shlex.join(("gcloud", "iam", "roles", "describe", WORKER_ROLE, "--project", project))
        create = ("gcloud", "iam", "roles", "create", WORKER_ROLE, "--project", project, "--title", WORKER_TITLE)
        options = ("--description", _DESCRIPTION, "--permissions", ",".join(WORKER), "--stage", "GA")
        return SetupItem(
            subject=f"role {WORKER_ROLE}",
            purpose=f"{len(WORKER)} permissions of Pub/Sub, to receive tasks and send events",
            look=if_enabled(self._look),
            make=lambda: patiently(self._make),
            remove=if_enabled(self._remove),
            commands=(f"{describe} >/dev/null 2>&1 || {shlex.join((*create, *options))}",),
            terraform=(
                TerraformBlock(
                    kind="resource",
                    labels=("google_project_iam_custom_role", "worker"),
                    arguments={
                        "project": project,
                        "role_id": WORKER_ROLE,
                        "title": WORKER_TITLE,
                        "description": _DESCRIPTION,
                        "permissions": WORKER,
                        "stage": "GA",
                        "depends_on": (TerraformExpression("google_project_service.iam"),),
                    },
                ),
            ),
        )

    def _read(self) -> Resource | None:
        """Return the role, deleted or not; None if there is none."""
        try:
            return self.account.iam(lambda rest: rest.get(self._path))
        except NotFoundError:
            return None

    def _look(self) -> str:
        found = self._read()
        if found is None:
            return "missing"
        if found.get("deleted"):
            return "deleted"
        if found.get("stage") == "DISABLED":
            return "disabled"
        missing = _missing(found)
        return f"lacks {', '.join(missing)}" if missing else ""

    def _make(self) -> None:
        """Create, restore or complete the role. Raise `ConflictError` if it was changed meanwhile."""
        found = self._read()
        if found is None or found.get("deleted"):
            found = self._create_or_restore(found)
        if found.get("stage") == "DISABLED":
            update = f"gcloud iam roles update {WORKER_ROLE} --project {shlex.quote(self.account.project)} --stage GA"
            raise InputError(f"role {WORKER_ROLE} was disabled by a person", hint=f"run: {update}")
        missing = _missing(found)
        if missing:
            permissions = [*(found.get("includedPermissions") or ()), *missing]
            body = {"includedPermissions": permissions, "etag": found["etag"]}
            self.account.iam(lambda rest: rest.patch(self._path, body, updateMask="includedPermissions"))

    def _create_or_restore(self, deleted: Resource | None) -> Resource:
        role = {
            "title": WORKER_TITLE,
            "description": _DESCRIPTION,
            "includedPermissions": list(WORKER),
            "stage": "GA",
        }
        try:
            if deleted is not None:
                etag = {"etag": deleted["etag"]}
                return self.account.iam(lambda rest: rest.post(f"{self._path}:undelete", etag))
            body = {"roleId": WORKER_ROLE, "role": role}
            return self.account.iam(lambda rest: rest.post(f"v1/{self.account.path}/roles", body))
        except ProviderError as error:
            # "You can't create a role_id (…) which has been marked for deletion."
            if "HTTP 400" not in error.message or (deleted is None and "deletion" not in error.message):
                raise
            project = shlex.quote(self.account.project)
            member = f"serviceAccount:{worker_address(self.account.settings, self.account.project)}"
            raise InputError(
                f"role {WORKER_ROLE} was deleted, and Google keeps its name for 37 days",
                hint=f"run: gcloud projects add-iam-policy-binding {project} --member {member} "
                "--role roles/pubsub.subscriber --condition None, and the same with roles/pubsub.publisher",
            ) from error

    def _remove(self) -> str:
        """Keep it: a deleted role can be restored for a week, and then blocks its name for a month."""
        found = self._read()
        if found is None or found.get("deleted"):
            return ""
        return "it costs nothing, and a new role could not have the name of a deleted one for 37 days"


def _missing(role: Resource) -> list[str]:
    granted = role.get("includedPermissions") or ()
    return [each for each in WORKER if each not in granted]
