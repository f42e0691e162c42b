"""The bucket of the staging: private, only over TLS, its objects deleted after two weeks.

Sources: "Bucket operations" of the Amazon S3 API reference; "Verifying bucket ownership with bucket owner condition",
S3 user guide.

Invariants, each with a test:

1. Names of buckets are those of everybody: every call names the account that must own the bucket.
2. Settings beyond those that are needed are kept: other rules, other statements of the policy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from cloud_tasks.errors import CloudTasksError, ProviderError
from cloud_tasks.plugin import SetupItem, TerraformBlock, TerraformExpression
from cloud_tasks_aws.buckets import setup_bucket
from cloud_tasks_aws.errors import code_of
from cloud_tasks_aws.setup.account import MARK, Account, Call
from cloud_tasks_aws.setup.documents import covers, merged

__all__ = ["bucket_item"]

_DAYS = 14
_RULE: Mapping[str, Any] = {
    "ID": "cloud-tasks",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "Expiration": {"Days": _DAYS},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
}
_BLOCK = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
_OWNERSHIP = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
_UNKNOWN = "NoSuchBucket|OperationAborted|404"
"""Also while a bucket of this name is being made or deleted."""
_SETTINGS = {
    "PutPublicAccessBlock": "public access is possible",
    "PutBucketOwnershipControls": "objects may belong to others",
    "PutBucketLifecycleConfiguration": "objects are kept",
    "PutBucketPolicy": "plain HTTP is accepted",
}
"""What is wrong without each setting, in the order in which they are made."""


@attrs.frozen(kw_only=True)
class _Bucket:
    account: Account

    @property
    def name(self) -> str:
        return setup_bucket(self.account.number, self.account.region)

    def look(self) -> str:
        if self._tags() is None:
            return "missing"
        wrong = {call.operation for call in self._corrections()}
        return ", ".join(problem for operation, problem in _SETTINGS.items() if operation in wrong)

    def make(self) -> None:
        is_new = self._tags() is None
        try:
            for call in self.calls if is_new else self._corrections():
                self.account.make(call, "BucketAlreadyOwnedByYou", unknown=_UNKNOWN)
        except ProviderError as error:
            if code_of(error.__cause__ or error) == "BucketAlreadyExists":
                raise self._foreign() from error
            raise
        self.account.settle(self.look)

    def remove(self) -> str:
        tags = self._tags()
        if tags is None:
            return ""
        if tags.get(MARK) != "1":
            return "it was not made by setup"
        try:
            self.account.make(self._call("DeleteBucket"), "NoSuchBucket", unknown="OperationAborted")
        except ProviderError as error:
            if code_of(error.__cause__ or error) != "BucketNotEmpty":
                raise
            found = self.account.ask(self._call("ListObjectsV2", MaxKeys=1000))
            count, more = found["KeyCount"], "more than " if found["IsTruncated"] else ""
            return f"it has {more}{count} {'object' if count == 1 else 'objects'}" if count else "it has old versions"
        return ""

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls that make the bucket and its settings."""
        place = {"CreateBucketConfiguration": {"LocationConstraint": self.account.region}}
        return (
            # The region without a location constraint is this one, and it accepts none.
            Call("s3", "CreateBucket", Bucket=self.name, **({} if self.account.region == "us-east-1" else place)),
            self._call("PutBucketTagging", Tagging={"TagSet": self.account.tag_list}),
            self._call("PutPublicAccessBlock", PublicAccessBlockConfiguration=_BLOCK),
            self._call("PutBucketOwnershipControls", OwnershipControls=_OWNERSHIP),
            self._call("PutBucketLifecycleConfiguration", LifecycleConfiguration={"Rules": [_RULE]}),
            self._call("PutBucketPolicy", Policy=json.dumps(self._policy)),
        )

    def commands(self) -> tuple[str, ...]:
        created, tagged, *others = self.calls
        found = self.account.commands_unless(self._call("HeadBucket"), "bucket-exists", created)
        # Tags of a bucket that exists are kept.
        return (*found[:-1], f"  {self.account.command(tagged)}", found[-1], *map(self.account.command, others))

    def terraform(self) -> Iterator[TerraformBlock]:
        bucket = {"bucket": TerraformExpression("aws_s3_bucket.staging.id")}
        yield _resource("aws_s3_bucket", {"bucket": self.name, "tags": self.account.tags})
        flags = {"block_public_acls": True, "ignore_public_acls": True}
        flags |= {"block_public_policy": True, "restrict_public_buckets": True}
        yield _resource("aws_s3_bucket_public_access_block", {**bucket, **flags})
        rule = TerraformBlock(kind="rule", arguments={"object_ownership": "BucketOwnerEnforced"})
        yield _resource("aws_s3_bucket_ownership_controls", bucket, rule)
        parts = (
            TerraformBlock(kind="filter", arguments={"prefix": ""}),
            TerraformBlock(kind="expiration", arguments={"days": _DAYS}),
            TerraformBlock(kind="abort_incomplete_multipart_upload", arguments={"days_after_initiation": 1}),
        )
        rule = TerraformBlock(kind="rule", arguments={"id": _RULE["ID"], "status": "Enabled"}, blocks=parts)
        yield _resource("aws_s3_bucket_lifecycle_configuration", bucket, rule)
        yield _resource("aws_s3_bucket_policy", {**bucket, "policy": json.dumps(self._policy)})

    @property
    def _policy(self) -> dict[str, Any]:
        statement = {
            "Sid": "DenyPlainHttp",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [self.account.arn("s3", self.name), self.account.arn("s3", f"{self.name}/*")],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        return {"Version": "2012-10-17", "Statement": [statement]}

    def _call(self, operation: str, **arguments: Any) -> Call:
        return Call("s3", operation, Bucket=self.name, ExpectedBucketOwner=self.account.number, **arguments)

    def _tags(self) -> Mapping[str, str] | None:
        """Return the tags; None if there is no such bucket. Raises if it is another account's."""
        try:
            found = self.account.find(self._call("GetBucketTagging"), "NoSuchTagSet")
        except CloudTasksError as error:
            code = code_of(error.__cause__ or error)
            if code == "NoSuchBucket":
                return None
            # S3 explains refusals of the own account's buckets only.
            if code == "AccessDenied" and "authorized" not in str(error.__cause__):
                raise self._foreign() from error.__cause__
            raise
        return {} if found is None else {each["Key"]: each["Value"] for each in found["TagSet"]}

    def _foreign(self) -> CloudTasksError:
        return CloudTasksError(
            f"bucket {self.name} belongs to another account",
            hint=f"set run.staging to a bucket of account {self.account.number}: s3://BUCKET/staging",
        )

    def _corrections(self) -> Iterator[Call]:
        """Yield the calls that correct settings which are not as needed, and keep everything else."""
        found = self.account.find(self._call("GetPublicAccessBlock"), "NoSuchPublicAccessBlockConfiguration")
        if not found or not all(map(found["PublicAccessBlockConfiguration"].get, _BLOCK)):
            yield self._call("PutPublicAccessBlock", PublicAccessBlockConfiguration=_BLOCK)
        found = self.account.find(self._call("GetBucketOwnershipControls"), "OwnershipControlsNotFoundError")
        if not found or found["OwnershipControls"]["Rules"][0]["ObjectOwnership"] != "BucketOwnerEnforced":
            yield self._call("PutBucketOwnershipControls", OwnershipControls=_OWNERSHIP)
        found = self.account.find(self._call("GetBucketLifecycleConfiguration"), "NoSuchLifecycleConfiguration")
        rules = found["Rules"] if found else []
        if not _expires(rules):
            kept = [each for each in rules if each.get("ID") != _RULE["ID"]]
            size = "TransitionDefaultMinimumObjectSize"
            others = {size: found[size]} if found and size in found else {}
            yield self._call(
                "PutBucketLifecycleConfiguration", LifecycleConfiguration={"Rules": [*kept, _RULE]}, **others
            )
        found = self.account.find(self._call("GetBucketPolicy"), "NoSuchBucketPolicy")
        policy = json.loads(found["Policy"]) if found else {}
        if not covers(policy, self._policy):
            yield self._call("PutBucketPolicy", Policy=merged(policy, self._policy))


def bucket_item(account: Account) -> tuple[SetupItem, str]:
    """Return the bucket, and the URL of the staging in it."""
    bucket = _Bucket(account=account)
    item = SetupItem(
        subject=f"bucket {bucket.name}",
        purpose="files for instances, deleted after two weeks",
        look=bucket.look,
        make=bucket.make,
        remove=bucket.remove,
        commands=bucket.commands(),
        terraform=tuple(bucket.terraform()),
    )
    return item, f"s3://{bucket.name}/staging"


def _resource(kind: str, arguments: Mapping[str, Any], *blocks: TerraformBlock) -> TerraformBlock:
    return TerraformBlock(kind="resource", labels=(kind, "staging"), arguments=arguments, blocks=blocks)


def _expires(rules: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether rules for all objects delete them after two weeks, and the rest of failed uploads at some time."""
    whole = [each for each in rules if each["Status"] == "Enabled" and _is_for_all(each)]
    is_deleted = any(each.get("Expiration", {}).get("Days") == _DAYS for each in whole)
    return is_deleted and any("AbortIncompleteMultipartUpload" in each for each in whole)


def _is_for_all(rule: Mapping[str, Any]) -> bool:
    """Return whether a rule has no filter; ``Prefix`` beside ``Filter`` is its former place."""
    return not rule.get("Prefix") and not any(rule.get("Filter", {}).values())
