"""Access policies of the fake project: etags, conditions, and members and roles that have to exist."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from admin_errors import Refusal, refused, storage_refused

if TYPE_CHECKING:
    from project_admin import ProjectAdmin

__all__ = ["Policy"]


class Policy:
    """Policy of one resource.

    Args:
        is_storage: Whether it is that of a bucket, with other refusals.
    """

    def __init__(self, project: ProjectAdmin, *bindings: Mapping[str, Any], is_storage: bool = False) -> None:
        self.bindings: list[dict[str, Any]] = [dict(each) for each in bindings]
        self._project = project
        self._is_storage = is_storage
        self.etag = project.etag()

    def members(self, role: str) -> set[str]:
        """Return the members that have a role without a condition."""
        return {
            member
            for each in self.bindings
            if each["role"] == role and "condition" not in each
            for member in each["members"]
        }

    def add(self, role: str, member: str, **fields: Any) -> None:
        """Add a binding, as another person would."""
        self.bindings.append({"role": role, "members": [member], **fields})
        self.etag = self._project.etag()

    def read(self, version: object) -> dict[str, Any]:
        """Return the policy. Without version 3, bindings with conditions have a role of another name."""
        shown = copy.deepcopy(self.bindings)
        conditional = [each for each in shown if "condition" in each]
        if str(version) != "3":
            for each in conditional:
                del each["condition"]
                each["role"] += "_withcond_0123456789abcdef"
            conditional = []
        return {"version": 3 if conditional else 1, "etag": self.etag, "bindings": shown}

    def write(self, policy: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the policy if it was not changed since it was read."""
        if policy.get("etag") != self.etag:
            raise self._conflict()
        has_conditions = any("condition" in each for each in (*self.bindings, *policy["bindings"]))
        if has_conditions and policy.get("version") != 3:
            raise refused(400, "Specified policy version (1) cannot be less than the existing policy version (3).")
        for binding in policy["bindings"]:
            self._check_role(binding["role"])
            for member in binding["members"]:
                self._check_member(member)
        self.bindings = copy.deepcopy(list(policy["bindings"]))
        self.etag = self._project.etag()
        return self.read(3)

    def _conflict(self) -> Refusal:
        if self._is_storage:
            message = "At least one of the pre-conditions you specified did not hold."
            return storage_refused(412, "conditionNotMet", message)
        message = (
            "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff."
        )
        return refused(409, message)

    def _check_role(self, role: str) -> None:
        if not role.startswith("projects/"):
            return
        found = self._project.iam.roles.get(role.rpartition("/")[2])
        if found is None or not self._project.is_visible(f"{role} in policies"):
            raise refused(400, f"Role ({role}) does not exist in the resource's hierarchy.")

    def _check_member(self, member: str) -> None:
        kind, _, address = member.partition(":")
        own = f"@{self._project.project}.iam.gserviceaccount.com"
        if kind != "serviceAccount" or not address.endswith(own):
            return
        if address not in self._project.iam.accounts or not self._project.is_visible(f"{address} in policies"):
            message = f"Service account {address} does not exist."
            raise storage_refused(400, "invalid", message) if self._is_storage else refused(400, message)
