"""What `cloud-tasks doctor` learns of an account, and the permissions that it prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import attrs
import boto3
import pytest
from cloud_wire import Answer, Request, Wire
from ec2_process import OverlayProcess

from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.registry import Registry
from cloud_tasks_aws.settings import AwsSettings

BACKEND = Registry(only=["aws"]).compute("aws")
CONTEXT = CheckContext(region="us-east-1")


def findings(settings: AwsSettings) -> dict[str, Finding]:
    assert BACKEND.check is not None
    return {each.subject: each for each in BACKEND.check(settings, CONTEXT)}


def documents(settings: AwsSettings) -> dict[str, Any]:
    assert BACKEND.policies is not None
    return {name: json.loads(text) for name, text in BACKEND.policies(settings, CONTEXT).items()}


@pytest.fixture
def profile(overlay: OverlayProcess) -> Iterator[str]:
    """An instance profile with a role."""
    name = f"workers-{uuid4().hex[:6]}"
    keys: dict[str, Any] = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}
    iam = boto3.client("iam", endpoint_url=overlay.url, region_name="us-east-1", **keys)
    iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    yield name
    iam.close()


def test_an_account_that_has_everything_passes_every_look(
    overlay: OverlayProcess, aws_settings: AwsSettings, profile: str
) -> None:
    overlay.tell("quota", code="L-1216C47A", value=64)
    overlay.tell("quota", code="L-34B43A08", value=32)
    before = overlay.state()["instances"]
    found = findings(attrs.evolve(aws_settings, instance_profile=profile))
    assert [each for each in found.values() if not each.ok] == []
    assert set(found) == {
        "credentials",
        "region",
        "network",
        "boot image",
        "launching",
        "instance profile",
        "on-demand quota",
        "spot quota",
    }
    assert "64 vCPUs" in found["on-demand quota"].message
    assert overlay.state()["instances"] == before, "looking started an instance"


def test_a_missing_permission_to_launch_is_found_with_the_way_to_mend_it(
    overlay: OverlayProcess, aws_settings: AwsSettings
) -> None:
    overlay.tell("stock-out", code="UnauthorizedOperation")
    found = findings(aws_settings)["launching"]
    assert not found.ok
    assert "UnauthorizedOperation" in found.message
    assert "--policy" in found.remedy


def test_instances_without_a_role_are_a_finding(aws_settings: AwsSettings) -> None:
    found = findings(aws_settings)["instance profile"]
    assert not found.ok
    assert "aws.instance_profile" in found.remedy
    unknown = findings(attrs.evolve(aws_settings, instance_profile="nobody"))["instance profile"]
    assert not unknown.ok
    assert unknown.remedy


def test_a_quota_of_nothing_is_a_finding(overlay: OverlayProcess, aws_settings: AwsSettings) -> None:
    overlay.tell("quota", code="L-34B43A08", value=0)
    found = findings(aws_settings)["spot quota"]
    assert not found.ok
    assert "request-service-quota-increase" in found.remedy


def test_wrong_credentials_end_the_looking_and_are_not_told() -> None:
    def refuse(request: Request) -> Answer:
        body = (
            "<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>The security token is invalid."
            "</Message></Error></ErrorResponse>"
        )
        return Answer(status=403, body=body, headers={"Content-Type": "text/xml"})

    with Wire().serving() as wire:
        wire.route("POST", "/", refuse)
        found = findings(AwsSettings(endpoint_url=wire.url, access_key="AKIDWRONG", secret_key="do-not-tell"))
    assert list(found) == ["credentials"]
    assert not found["credentials"].ok
    assert found["credentials"].remedy
    assert "do-not-tell" not in repr(found)


# Policies


def test_there_is_a_document_for_each_who_acts() -> None:
    found = documents(AwsSettings())
    assert set(found) == {"controller", "worker", "worker trust"}
    assert {each["Version"] for each in found.values()} == {"2012-10-17"}


def test_what_changes_or_ends_instances_is_held_to_our_tag() -> None:
    held = {"ec2:RunInstances", "ec2:TerminateInstances", "ec2:GetConsoleOutput", "ec2:DeleteLaunchTemplate"}
    found = set()
    for statement in documents(AwsSettings())["controller"]["Statement"]:
        touched = held & set(statement["Action"])
        kinds = {each.split(":")[5].partition("/")[0] for each in statement["Resource"] if each.count(":") >= 5}
        if touched and kinds & {"instance", "volume", "launch-template"} and "image" not in kinds:
            assert "cloud-tasks-job" in json.dumps(statement["Condition"]), statement["Sid"]
            found |= touched
    assert found == held


def test_only_looking_is_allowed_everywhere() -> None:
    for document in documents(AwsSettings()).values():
        for statement in document["Statement"]:
            if statement.get("Resource") == "*":
                verbs = {action.partition(":")[2] for action in statement["Action"]}
                assert all(verb.startswith(("Describe", "Get", "List")) for verb in verbs), statement


def test_a_worker_may_use_the_jobs_queues_and_nothing_else() -> None:
    statements = documents(AwsSettings(queue_prefix="mine-"))["worker"]["Statement"]
    allowed = {action: each["Resource"] for each in statements for action in each["Action"]}
    assert allowed.pop("sqs:ListQueues") == "*"
    assert "sqs:ReceiveMessage" in allowed
    assert not {"sqs:CreateQueue", "sqs:DeleteQueue", "sqs:PurgeQueue"} & set(allowed)
    assert list(allowed.values()) == [["arn:aws:sqs:*:*:mine-*"]] * len(allowed)
    with_objects = documents(AwsSettings(oversize_location="s3://bucket/big"))["worker"]["Statement"]
    assert with_objects[-1]["Resource"] == ["arn:aws:s3:::bucket/big/*"]


def test_a_group_may_be_made_only_where_none_is_set() -> None:
    def may_make(settings: AwsSettings) -> bool:
        return "ec2:CreateSecurityGroup" in json.dumps(documents(settings)["controller"])

    assert may_make(AwsSettings())
    assert not may_make(AwsSettings(security_groups=("sg-1",)))
