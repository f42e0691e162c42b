"""Items that grant a role: additions to the access policy of a project, a bucket or a service account."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from cloud_tasks.errors import NotFoundError
from cloud_tasks.plugin import SetupItem, TerraformBlock, TerraformExpression
from cloud_tasks_gcp.setup.account import Account, Resource, if_enabled, patiently
from cloud_tasks_gcp.setup.bucket import Bucket
from cloud_tasks_gcp.setup.role import Role
from cloud_tasks_gcp.setup.service_account import ServiceAccount

__all__ = ["Grant", "bucket_grant", "member_terraform", "project_grant"]

_OPTIONS = {"options": {"requestedPolicyVersion": 3}}
"""Without it, Google's answer has no conditions, and writing it back would lose them."""
_READER = "roles/storage.objectViewer"


@attrs.frozen(kw_only=True)
class Grant:
    """A role of one member in a policy, without a condition."""

    role: str
    member: str
    read: Callable[[], Resource]
    """Return the policy. Raises `NotFoundError` if its resource is missing."""
    write: Callable[[Mapping[str, Any]], object]
    """Replace the policy. Raises `ConflictError` if it was changed since it was read."""
    is_ours: Callable[[], bool]
    """Return whether `setup` made the resource or the member."""

    def look(self) -> str:
        try:
            bindings = self.read().get("bindings") or ()
        except NotFoundError:
            return "not granted"
        conditions = [each.get("condition") for each in bindings if self._is_in(each)]
        return "" if None in conditions else "granted under a condition" if conditions else "not granted"

    def make(self) -> None:
        patiently(self._add)

    def remove(self) -> str:
        try:
            if self.look() == "":
                if not self.is_ours():
                    return "another program or person may need it"
                patiently(self._take)
        except NotFoundError:
            pass  # it is gone with its resource
        return ""

    def _is_in(self, binding: Mapping[str, Any]) -> bool:
        return binding.get("role") == self.role and self.member in (binding.get("members") or ())

    def _add(self) -> None:
        policy = self.read()
        bindings = [dict(each) for each in policy.get("bindings") or ()]
        same = [each for each in bindings if each.get("role") == self.role and not each.get("condition")]
        if any(self._is_in(each) for each in same):
            return
        if same:
            same[0]["members"] = [*(same[0].get("members") or ()), self.member]
        else:
            bindings.append({"role": self.role, "members": [self.member]})
        self.write({**policy, "bindings": bindings})

    def _take(self) -> None:
        policy = self.read()
        bindings = []
        for each in policy.get("bindings") or ():
            if self._is_in(each) and not each.get("condition"):
                each = {**each, "members": [other for other in each["members"] if other != self.member]}
                if not each["members"]:
                    continue
            bindings.append(each)
        self.write({**policy, "bindings": bindings})


def project_grant(account: Account, role: Role, robot: ServiceAccount) -> SetupItem:
    """Return the item that gives the worker its role."""
    path = f"v1/{account.path}"
    grant = Grant(
        role=role.name,
        member=robot.member,
        read=lambda: account.manager(lambda rest: rest.post(f"{path}:getIamPolicy", _OPTIONS)),
        write=lambda policy: account.manager(lambda rest: rest.post(f"{path}:setIamPolicy", {"policy": policy})),
        is_ours=robot.is_ours,
    )
    words = ("gcloud", "projects", "add-iam-policy-binding", account.project, "--member", robot.member)
    return SetupItem(
        subject=f"{role.name.rpartition('/')[2]} for {robot.address}",
        purpose="lets instances receive tasks",
        look=if_enabled(grant.look),
        make=grant.make,
        remove=if_enabled(grant.remove),
        commands=(shlex.join((*words, "--role", role.name, "--condition", "None")),),
        terraform=(
            member_terraform(
                "google_project_iam_member",
                "worker",
                role=TerraformExpression("google_project_iam_custom_role.worker.id"),
                member=robot.terraform,
                project=account.project,
                needs=("google_project_service.cloudresourcemanager",),
            ),
        ),
    )


def bucket_grant(account: Account, bucket: Bucket, robot: ServiceAccount) -> SetupItem:
    """Return the item that lets the worker read the staging."""
    path = f"storage/v1/b/{bucket.name}/iam"
    grant = Grant(
        role=_READER,
        member=robot.member,
        read=lambda: account.storage(lambda rest: rest.get(path, optionsRequestedPolicyVersion="3")),
        write=lambda policy: account.storage(lambda rest: rest.put(path, policy)),
        is_ours=bucket.is_ours,
    )
    words = ("gcloud", "storage", "buckets", "add-iam-policy-binding", f"gs://{bucket.name}", "--member", robot.member)
    return SetupItem(
        subject=f"{_READER} on {bucket.name}",
        purpose="lets instances download the program",
        look=if_enabled(grant.look),
        make=grant.make,
        remove=if_enabled(grant.remove),
        commands=(shlex.join((*words, "--role", _READER)),),
        terraform=(
            member_terraform(
                "google_storage_bucket_iam_member",
                "worker",
                role=_READER,
                member=robot.terraform,
                bucket=TerraformExpression("google_storage_bucket.staging.name"),
            ),
        ),
    )


def member_terraform(
    kind: str, name: str, *, role: object, member: object, needs: tuple[str, ...] = (), **resource: object
) -> TerraformBlock:
    """Return the resource that adds a member to a policy, after others that it does not name."""
    arguments = {**resource, "role": role, "member": member}
    if needs:
        arguments["depends_on"] = tuple(TerraformExpression(each) for each in needs)
    return TerraformBlock(kind="resource", labels=(kind, name), arguments=arguments)
