"""Service accounts and custom roles of the fake project."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from admin_errors import refused
from admin_policies import Policy
from fake_server import Request

if TYPE_CHECKING:
    from project_admin import ProjectAdmin

__all__ = ["Iam"]

_ACT_AS = "iam.serviceAccounts.actAs"


class Iam:
    """Accounts and roles by address and id."""

    def __init__(self, project: ProjectAdmin) -> None:
        self.accounts: dict[str, dict[str, Any]] = {}
        self.policies: dict[str, Policy] = {}
        """Policies of the accounts, by address."""
        self.keys: dict[str, int] = {}
        """Number of keys of a person, by address."""
        self.roles: dict[str, dict[str, Any]] = {}
        self.purged: set[str] = set()
        """Ids of roles that were deleted more than a week ago."""
        self.me = ""
        """Name of the caller in policies, who may use an account by its policy only; empty: all accounts."""
        self._project = project
        path = re.escape(f"/v1/projects/{project.project}")
        account = rf"/v1/projects/(?:{re.escape(project.project)}|-)/serviceAccounts/(?P<address>[^/:]+)"
        role = rf"{path}/roles/(?P<id>[^/:]+)"
        for method, pattern, permission, handler, writes in (
            ("POST", rf"{path}/serviceAccounts", "serviceAccounts.create", self._create_account, True),
            ("GET", account, "serviceAccounts.get", self._account, False),
            ("DELETE", account, "serviceAccounts.delete", self._delete_account, True),
            ("GET", rf"{account}/keys", "serviceAccountKeys.list", self._list_keys, False),
            ("POST", rf"{account}:testIamPermissions", "serviceAccounts.get", self._test, False),
            ("POST", rf"{account}:getIamPolicy", "serviceAccounts.getIamPolicy", self._get_policy, False),
            ("POST", rf"{account}:setIamPolicy", "serviceAccounts.setIamPolicy", self._set_policy, True),
            ("POST", rf"{path}/roles", "roles.create", self._create_role, True),
            ("GET", role, "roles.get", self._role, False),
            ("PATCH", role, "roles.update", self._change_role, True),
            ("POST", rf"{role}:undelete", "roles.undelete", self._restore_role, True),
        ):
            project.serve(method, pattern, f"iam.{permission}", handler, writes=writes)

    # -- accounts --

    def add_account(self, address: str, **fields: Any) -> None:
        """Make an account, as another person would."""
        self.accounts[address] = {"email": address, **fields}
        self.policies[address] = Policy(self._project)

    def _create_account(self, request: Request) -> Any:
        body = request.json()
        name = body["accountId"]
        if not re.fullmatch(r"[a-z][-a-z0-9]{4,28}[a-z0-9]", name) or len(body["serviceAccount"]["description"]) > 256:
            raise refused(400, "Invalid service account.")
        address = f"{name}@{self._project.project}.iam.gserviceaccount.com"
        if address in self.accounts:
            path = f"projects/{self._project.project}/serviceAccounts/{address}"
            raise refused(409, f"Service account {name} already exists within project {path}.", name="ALREADY_EXISTS")
        self.add_account(address, **body["serviceAccount"])
        self._project.appear(address)
        self._project.appear(f"{address} in policies")
        return self.accounts[address]

    def _found(self, request: Request) -> str:
        address = request.groups["address"]
        if address not in self.accounts:
            raise refused(404, f"Unknown service account: {address}")
        if not self._project.is_visible(address):
            message = "Permission 'iam.serviceAccounts.get' denied on resource (or it may not exist)."
            raise refused(403, message, reason="IAM_PERMISSION_DENIED", permission="iam.serviceAccounts.get")
        return address

    def _account(self, request: Request) -> Any:
        return self.accounts[self._found(request)]

    def _delete_account(self, request: Request) -> Any:
        del self.accounts[self._found(request)]
        return {}

    def _list_keys(self, request: Request) -> Any:
        assert request.query["keyTypes"] == "USER_MANAGED"
        count = self.keys.get(self._found(request), 0)
        return {"keys": [{"name": f"keys/{number}"} for number in range(count)]} if count else {}

    def _test(self, request: Request) -> Any:
        policy = self.policies[self._found(request)]
        members = policy.members("roles/iam.serviceAccountUser")
        may = not self.me or (self.me in members and self._project.is_visible(_ACT_AS))
        return {"permissions": [each for each in request.json()["permissions"] if may or each != _ACT_AS]}

    def _get_policy(self, request: Request) -> Any:
        return self.policies[self._found(request)].read(request.query.get("options.requestedPolicyVersion"))

    def _set_policy(self, request: Request) -> Any:
        self._project.appear(_ACT_AS)
        return self.policies[self._found(request)].write(request.json()["policy"])

    # -- roles --

    def add_role(self, name: str, **fields: Any) -> None:
        """Make a role, as another person would."""
        full = f"projects/{self._project.project}/roles/{name}"
        self.roles[name] = {"name": full, "stage": "GA", "etag": self._project.etag(), **fields}

    def _create_role(self, request: Request) -> Any:
        body = request.json()
        name = body["roleId"]
        if name in self.purged or self.roles.get(name, {}).get("deleted"):
            message = f"You can't create a role_id ({name}) which has been marked for deletion."
            raise refused(400, message, name="FAILED_PRECONDITION")
        if name in self.roles:
            full = f"projects/{self._project.project}/roles/{name}"
            raise refused(409, f"A role named {name} in {full} already exists.", name="ALREADY_EXISTS")
        self.add_role(name, **body["role"])
        self._project.appear(f"{self.roles[name]['name']} in policies")
        return self.roles[name]

    def _role(self, request: Request) -> Any:
        name = request.groups["id"]
        if name not in self.roles:
            full = f"projects/{self._project.project}/roles/{name}"
            raise refused(404, f"The role named {full} was not found.")
        return self.roles[name]

    def _unchanged(self, request: Request) -> dict[str, Any]:
        role = self.roles[request.groups["id"]]
        if request.json()["etag"] != role["etag"]:
            raise refused(409, "There were concurrent changes to the role. Please retry with exponential backoff.")
        return role

    def _change_role(self, request: Request) -> Any:
        role = self._unchanged(request)
        if role.get("deleted"):
            raise refused(400, "You can't update a deleted role.", name="FAILED_PRECONDITION")
        for field in request.query["updateMask"].split(","):
            role[field] = request.json()[field]
        role["etag"] = self._project.etag()
        return role

    def _restore_role(self, request: Request) -> Any:
        role = self._unchanged(request)
        if request.groups["id"] in self.purged:
            message = "You can't undelete a role that was deleted more than 7 days ago."
            raise refused(400, message, name="FAILED_PRECONDITION")
        del role["deleted"]
        role["etag"] = self._project.etag()
        return role
