"""An account of its own in the fake for a test of ``cloud-tasks setup aws``, and what is in it."""

from __future__ import annotations

import json
from typing import Any

import attrs
from botocore.exceptions import ClientError
from ec2_process import OverlayProcess

from cloud_tasks.plugin import AccountSetup, SetupItem
from cloud_tasks.testing import SetupSubject
from cloud_tasks_aws.session import client
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["NAME", "SetupSite", "cached_client"]

NAME = "cloud-tasks-worker"


_clients: dict[tuple[str, ...], Any] = {}


def cached_client(settings: AwsSettings, service: str, region: str, **_: Any) -> Any:
    """Return the client of a service, made once per fake: making one takes longer than its calls."""
    key = (str(settings.endpoint_url), service, region)
    if key not in _clients:
        _clients[key] = client(settings, service, region, attempts=2)
    return _clients[key]


@attrs.frozen
class SetupSite:
    """An account in which nothing is set up."""

    overlay: OverlayProcess
    number: str
    subject: SetupSubject

    @property
    def bucket(self) -> str:
        return f"cloud-tasks-{self.number}-{self.subject.region}"

    def enter(self, *, lag: int = 0) -> None:
        """Let the fake continue in this account, emptied of what is denied."""
        self.overlay.control("account", number=self.number, lag=lag)

    def client(self, service: str) -> Any:
        return cached_client(self.subject.settings, service, str(self.subject.region))

    def plan(self, **settings: Any) -> AccountSetup:
        return attrs.evolve(self.subject, settings=attrs.evolve(self.subject.settings, **settings)).plan()

    def item(self, start: str, **settings: Any) -> SetupItem:
        """Return the item whose subject begins so."""
        (found,) = [each for each in self.plan(**settings).items if each.subject.startswith(start)]
        return found

    def make(self, **settings: Any) -> None:
        """Make what is missing; afterwards, nothing is."""
        for item in self.plan(**settings).items:
            if item.look():
                item.make()
        assert {each.subject: each.look() for each in self.plan(**settings).items if each.look()} == {}

    def undo(self) -> dict[str, str]:
        """Remove everything; return why items are kept, by the first word of their subject."""
        items = [each for each in self.plan().items if each.subject.split()[0] in ("role", "instance", "bucket")]
        return {each.subject.split()[0]: kept for each in reversed(items) if (kept := each.remove())}

    def facts(self) -> dict[str, Any]:
        """Return what is in the account."""
        iam, s3 = self.client("iam"), self.client("s3")
        role = iam.get_role(RoleName=NAME)["Role"]
        profile = iam.get_instance_profile(InstanceProfileName=NAME)["InstanceProfile"]
        names = {
            "spot.amazonaws.com": "AWSServiceRoleForEC2Spot",
            "ec2fleet.amazonaws.com": "AWSServiceRoleForEC2Fleet",
        }
        (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=self.bucket)["Rules"]
        (owner,) = s3.get_bucket_ownership_controls(Bucket=self.bucket)["OwnershipControls"]["Rules"]
        block = s3.get_public_access_block(Bucket=self.bucket)["PublicAccessBlockConfiguration"]
        return {
            "role": (role["RoleName"], role["Description"], _tags(role["Tags"])),
            "trust": role["AssumeRolePolicyDocument"],
            "policies": {
                name: iam.get_role_policy(RoleName=NAME, PolicyName=name)["PolicyDocument"]
                for name in iam.list_role_policies(RoleName=NAME)["PolicyNames"]
            },
            "profile": (
                profile["InstanceProfileName"],
                [r["RoleName"] for r in profile["Roles"]],
                _tags(profile["Tags"]),
            ),
            "service roles": sorted(service for service, name in names.items() if self._has_role(name)),
            "bucket": (self.bucket, _tags(s3.get_bucket_tagging(Bucket=self.bucket)["TagSet"])),
            "region": s3.head_bucket(Bucket=self.bucket)["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"],
            "rule": (rule["ID"], rule["Status"], rule["Filter"], rule["Expiration"]["Days"]),
            "uploads": rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"],
            "owner": owner["ObjectOwnership"],
            "block": block,
            "policy": json.loads(s3.get_bucket_policy(Bucket=self.bucket)["Policy"]),
        }

    def _has_role(self, name: str) -> bool:
        try:
            self.client("iam").get_role(RoleName=name)
        except ClientError:
            return False
        return True


def _tags(found: list[dict[str, str]]) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in found}
