"""Doctor checks of an account, and the policies that doctor prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import attrs
import boto3
import pytest
from ec2_process import OverlayProcess
from fake_server import Answer, FakeServer, Request

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


def test_doctor_passes_a_complete_account(overlay: OverlayProcess, aws_settings: AwsSettings, profile: str) -> None:
    overlay.control("quota", code="L-1216C47A", value=64)
    overlay.control("quota", code="L-34B43A08", value=32)
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
    assert overlay.state()["instances"] == before, "the checks started an instance"


def test_doctor_reports_missing_launch_permission_with_fix(overlay: OverlayProcess, aws_settings: AwsSettings) -> None:
    overlay.control("stock-out", code="UnauthorizedOperation")
    found = findings(aws_settings)["launching"]
    assert not found.ok
    assert "UnauthorizedOperation" in found.message
    assert "--policy" in found.remedy


def test_doctor_reports_missing_instance_profile(aws_settings: AwsSettings) -> None:
    found = findings(aws_settings)["instance profile"]
    assert not found.ok
    assert "aws.instance_profile" in found.remedy
    unknown = findings(attrs.evolve(aws_settings, instance_profile="missing"))["instance profile"]
    assert not unknown.ok
    assert unknown.remedy


def test_doctor_reports_quota_of_zero(overlay: OverlayProcess, aws_settings: AwsSettings) -> None:
    overlay.control("quota", code="L-34B43A08", value=0)
    found = findings(aws_settings)["spot quota"]
    assert not found.ok
    assert "request-service-quota-increase" in found.remedy


def test_doctor_stops_after_invalid_credentials_without_showing_them() -> None:
    def refuse(request: Request) -> Answer:
        body = (
            "<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>The security token is invalid."
            "</Message></Error></ErrorResponse>"
        )
        return Answer(status=403, body=body, headers={"Content-Type": "text/xml"})

    with FakeServer().serving() as server:
        server.route("POST", "/", refuse)
        found = findings(AwsSettings(endpoint_url=server.url, access_key="AKIDWRONG", secret_key="not-to-be-shown"))
    assert list(found) == ["credentials"]
    assert not found["credentials"].ok
    assert found["credentials"].remedy
    assert "not-to-be-shown" not in repr(found)


# Policies


def test_policies_has_controller_worker_and_trust_documents() -> None:
    found = documents(AwsSettings())
    assert set(found) == {"controller", "worker", "worker trust"}
    assert {each["Version"] for each in found.values()} == {"2012-10-17"}


def test_policies_limit_instance_changes_to_the_job_tag() -> None:
    restricted = {"ec2:RunInstances", "ec2:TerminateInstances", "ec2:GetConsoleOutput", "ec2:DeleteLaunchTemplate"}
    found = set()
    for statement in documents(AwsSettings())["controller"]["Statement"]:
        touched = restricted & set(statement["Action"])
        kinds = {each.split(":")[5].partition("/")[0] for each in statement["Resource"] if each.count(":") >= 5}
        if touched and kinds & {"instance", "volume", "launch-template"} and "image" not in kinds:
            assert "cloud-tasks-job" in json.dumps(statement["Condition"]), statement["Sid"]
            found |= touched
    assert found == restricted


def test_policies_allow_only_reads_on_all_resources() -> None:
    for document in documents(AwsSettings()).values():
        for statement in document["Statement"]:
            if statement.get("Resource") == "*":
                verbs = {action.partition(":")[2] for action in statement["Action"]}
                assert all(verb.startswith(("Describe", "Get", "List")) for verb in verbs), statement


def test_worker_policy_allows_only_using_queues() -> None:
    statements = documents(AwsSettings(queue_prefix="mine-"))["worker"]["Statement"]
    allowed = {action: each["Resource"] for each in statements for action in each["Action"]}
    assert allowed.pop("sqs:ListQueues") == "*"
    assert "sqs:ReceiveMessage" in allowed
    assert not {"sqs:CreateQueue", "sqs:DeleteQueue", "sqs:PurgeQueue"} & set(allowed)
    assert list(allowed.values()) == [["arn:aws:sqs:*:*:mine-*"]] * len(allowed)
    with_objects = documents(AwsSettings(oversize_location="s3://bucket/big"))["worker"]["Statement"]
    assert with_objects[-1]["Resource"] == ["arn:aws:s3:::bucket/big/*"]


def test_controller_policy_allows_creating_a_group_only_without_security_groups() -> None:
    def may_create(settings: AwsSettings) -> bool:
        return "ec2:CreateSecurityGroup" in json.dumps(documents(settings)["controller"])

    assert may_create(AwsSettings())
    assert not may_create(AwsSettings(security_groups=("sg-1",)))
