"""The role of workers on instances, and the instance profile by which instances get it.

Invariant, with a test: what a role grants beyond what workers need is kept, and so is a role that others use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
from botocore.exceptions import ClientError

from cloud_tasks.errors import CloudTasksError, ProviderError
from cloud_tasks.model import Architecture
from cloud_tasks.plugin import CheckContext, SetupItem, TerraformBlock, TerraformExpression
from cloud_tasks_aws.compute.image_resolver import AwsImages
from cloud_tasks_aws.errors import problem_of
from cloud_tasks_aws.policies import policies
from cloud_tasks_aws.setup.account import MARK, Account, Call
from cloud_tasks_aws.setup.documents import covers, merged, union

__all__ = ["NAME", "profile_item", "role_item"]

NAME = "cloud-tasks-worker"
"""Name of the role, of its policy, and of the instance profile."""
_GET_ROLE = Call("iam", "GetRole", RoleName=NAME)
_GET_PROFILE = Call("iam", "GetInstanceProfile", InstanceProfileName=NAME)
_UNKNOWN = "NoSuchEntity|ConcurrentModification|EntityTemporarilyUnmodifiable"
_BUSY = f"DeleteConflict|{_UNKNOWN}"
_FOREIGN = "it was not made by setup"


@attrs.frozen(kw_only=True)
class _Role:
    account: Account
    trust: Mapping[str, Any]
    policy: Mapping[str, Any]

    def look(self) -> str:
        found = self._find()
        if found is None:
            return "missing"
        lacks = []
        if not covers(found["AssumeRolePolicyDocument"], self.trust):
            lacks.append("instances cannot assume it")
        if not covers(self._granted(), self.policy):
            lacks.append("permissions of workers are not granted")
        return ", ".join(lacks)

    def make(self) -> None:
        for call in self.calls if (found := self._find()) is None else self._corrections(found):
            self.account.make(call, "EntityAlreadyExists", unknown=_UNKNOWN)
        self.account.settle(self.look)

    def remove(self) -> str:
        found = self._find()
        if found is None:
            return ""
        if not _is_marked(found):
            return _FOREIGN
        others = [name for name in self._policies() if name != NAME]
        attached = self.account.ask(Call("iam", "ListAttachedRolePolicies", RoleName=NAME))["AttachedPolicies"]
        others += [each["PolicyName"] for each in attached]
        if others:
            return f"it has other policies, too: {', '.join(others)}"
        used = self.account.ask(Call("iam", "ListInstanceProfilesForRole", RoleName=NAME))["InstanceProfiles"]
        if used:
            return f"it is in the instance profile {used[0]['InstanceProfileName']}"
        self.account.make(Call("iam", "DeleteRolePolicy", RoleName=NAME, PolicyName=NAME), "NoSuchEntity")
        self.account.make(Call("iam", "DeleteRole", RoleName=NAME), "NoSuchEntity", unknown=_BUSY)
        return ""

    @property
    def calls(self) -> tuple[Call, Call]:
        created = Call(
            "iam",
            "CreateRole",
            RoleName=NAME,
            AssumeRolePolicyDocument=json.dumps(self.trust),
            Description="Workers of cloud-tasks",
            Tags=self.account.tag_list,
        )
        return created, self._grant(json.dumps(self.policy))

    def terraform(self) -> tuple[TerraformBlock, ...]:
        role, granted = (call.arguments for call in self.calls)
        return (
            TerraformBlock(
                kind="resource",
                labels=("aws_iam_role", "worker"),
                arguments={
                    "name": NAME,
                    "description": role["Description"],
                    "assume_role_policy": role["AssumeRolePolicyDocument"],
                    "tags": self.account.tags,
                },
            ),
            TerraformBlock(
                kind="resource",
                labels=("aws_iam_role_policy", "worker"),
                arguments={
                    "name": NAME,
                    "role": TerraformExpression("aws_iam_role.worker.name"),
                    "policy": granted["PolicyDocument"],
                },
            ),
        )

    def _find(self) -> Any:
        found = self.account.find(_GET_ROLE, "NoSuchEntity")
        return None if found is None else found["Role"]

    def _corrections(self, role: Mapping[str, Any]) -> Iterator[Call]:
        document = role["AssumeRolePolicyDocument"]
        if not covers(document, self.trust):
            trust = merged(document, self.trust)
            yield Call("iam", "UpdateAssumeRolePolicy", RoleName=NAME, PolicyDocument=trust)
        if not covers(self._granted(), self.policy):
            yield self._grant(merged(self._document(NAME), self.policy))

    def _grant(self, document: str) -> Call:
        return Call("iam", "PutRolePolicy", RoleName=NAME, PolicyName=NAME, PolicyDocument=document)

    def _granted(self) -> Mapping[str, Any]:
        """Return all statements of the role's own policies."""
        return union(self._document(name) for name in self._policies())

    def _policies(self) -> list[str]:
        found = self.account.find(Call("iam", "ListRolePolicies", RoleName=NAME), "NoSuchEntity")
        return list(found["PolicyNames"]) if found else []

    def _document(self, name: str) -> Mapping[str, Any]:
        found = self.account.find(Call("iam", "GetRolePolicy", RoleName=NAME, PolicyName=name), "NoSuchEntity")
        return found["PolicyDocument"] if found else {}


@attrs.frozen(kw_only=True)
class _Profile:
    account: Account

    def look(self) -> str:
        found = self._find()
        if found is None:
            return "missing"
        roles = [each["RoleName"] for each in found["Roles"]]
        return "" if roles == [NAME] else f"it has the role {roles[0]}" if roles else "it has no role"

    def make(self) -> None:
        found = self._find()
        if found is not None and found["Roles"] and self.look():
            raise CloudTasksError(
                f"instance profile {NAME}: {self.look()}",
                hint="if its instances should be workers, set aws.instance_profile to another profile",
            )
        for call in self.calls:
            self.account.make(call, "EntityAlreadyExists", "LimitExceeded", unknown=_UNKNOWN)
        self.account.settle(self.look)
        self.account.settle(self._look_by_ec2)

    def remove(self) -> str:
        found = self._find()
        if found is None:
            return ""
        if not _is_marked(found):
            return _FOREIGN
        if any(each["RoleName"] != NAME for each in found["Roles"]):
            return self.look()
        if users := list(self._instances(found["Arn"])):
            return f"instances use it: {', '.join(users)}"
        removed = Call("iam", "RemoveRoleFromInstanceProfile", InstanceProfileName=NAME, RoleName=NAME)
        self.account.make(removed, "NoSuchEntity", unknown=_BUSY)
        self.account.make(Call("iam", "DeleteInstanceProfile", InstanceProfileName=NAME), "NoSuchEntity", unknown=_BUSY)
        self.account.settle(self._look_by_role)
        return ""

    @property
    def calls(self) -> tuple[Call, Call]:
        return (
            Call("iam", "CreateInstanceProfile", InstanceProfileName=NAME, Tags=self.account.tag_list),
            Call("iam", "AddRoleToInstanceProfile", InstanceProfileName=NAME, RoleName=NAME),
        )

    def terraform(self) -> TerraformBlock:
        role = TerraformExpression("aws_iam_role.worker.name")
        return TerraformBlock(
            kind="resource",
            labels=("aws_iam_instance_profile", "worker"),
            arguments={"name": NAME, "role": role, "tags": self.account.tags},
        )

    def _find(self) -> Any:
        found = self.account.find(_GET_PROFILE, "NoSuchEntity")
        return None if found is None else found["InstanceProfile"]

    def _look_by_ec2(self) -> str:
        """Return whether launches are still refused, by a dry run; empty if it is refused for another reason."""
        ec2 = self.account.client("ec2")
        try:
            image = AwsImages(ec2, lambda: self.account.client("ssm")).resolve(None, Architecture.X86_64).image_id
            ec2.run_instances(
                DryRun=True,
                MinCount=1,
                MaxCount=1,
                ImageId=image,
                InstanceType="t3.micro",
                IamInstanceProfile={"Name": NAME},
                **({"SubnetId": subnet} if (subnet := next(iter(self.account.settings.subnets), "")) else {}),
            )
        except ClientError as error:
            return "EC2 does not know it yet" if "iaminstanceprofile" in problem_of(error).message.lower() else ""
        except ProviderError:
            return ""
        return ""

    def _look_by_role(self) -> str:
        found = self.account.find(Call("iam", "ListInstanceProfilesForRole", RoleName=NAME), "NoSuchEntity")
        return "the role has it" if found and found["InstanceProfiles"] else ""

    def _instances(self, arn: str) -> Iterator[str]:
        """Yield instances with the profile, in each region."""
        filters = [
            {"Name": "iam-instance-profile.arn", "Values": [arn]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
        ]
        call = Call("ec2", "DescribeInstances", Filters=filters)
        regions = {each["RegionName"] for each in self.account.ask(Call("ec2", "DescribeRegions"))["Regions"]}
        for region in sorted(regions | {self.account.region}):
            # An organization may forbid other regions, where no instance can be then.
            refusals = () if region == self.account.region else ("UnauthorizedOperation",)
            found = self.account.at(region).find(call, *refusals) or {"Reservations": []}
            yield from (each["InstanceId"] for group in found["Reservations"] for each in group["Instances"])


def role_item(account: Account, staging: str) -> SetupItem:
    """Return the role that instances have, with the permissions of workers."""
    documents = policies(account.settings, CheckContext(region=account.region, staging=staging))
    role = _Role(account=account, trust=json.loads(documents["worker trust"]), policy=json.loads(documents["worker"]))
    return SetupItem(
        subject=f"role {NAME}",
        purpose="the permissions of workers: their queues, nothing else",
        look=role.look,
        make=role.make,
        remove=role.remove,
        commands=(
            *account.commands_unless(_GET_ROLE, "role-exists", role.calls[0]),
            account.command(role.calls[1]),
        ),
        terraform=role.terraform(),
    )


def profile_item(account: Account) -> SetupItem:
    """Return the instance profile, by which instances get the role."""
    profile = _Profile(account=account)
    return SetupItem(
        subject=f"instance profile {NAME}",
        purpose="gives instances the role",
        look=profile.look,
        make=profile.make,
        remove=profile.remove,
        commands=account.commands_unless(_GET_PROFILE, "instance-profile-exists", *profile.calls),
        terraform=(profile.terraform(),),
    )


def _is_marked(found: Mapping[str, Any]) -> bool:
    return {"Key": MARK, "Value": "1"} in found.get("Tags", [])
