"""Doctor checks of an account."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import attrs
import boto3
import pytest
from ec2_process import OverlayProcess
from fake_server import Answer, FakeServer, Request
from s3_store import s3_store

from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.registry import Registry
from cloud_tasks_aws.settings import AwsSettings

BACKEND = Registry(only=["aws"]).compute("aws")
CONTEXT = CheckContext(region="us-east-1")


def findings(settings: AwsSettings, context: CheckContext = CONTEXT) -> dict[str, Finding]:
    assert BACKEND.check is not None
    return {each.subject: each for each in BACKEND.check(settings, context)}


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
    with s3_store("staging") as store:
        settings = attrs.evolve(aws_settings, instance_profile=profile, s3_endpoint=store.server.url)
        found = findings(settings, attrs.evolve(CONTEXT, staging="s3://staging/jobs"))
    assert [each for each in found.values() if not each.ok] == []
    assert set(found) == {
        "credentials",
        "region",
        "network",
        "boot image",
        "launching",
        "fleets",
        "instance profile",
        "staging",
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


def test_doctor_launches_in_the_subnets_of_the_job(
    overlay: OverlayProcess, aws_settings: AwsSettings, ec2: Any, profile: str
) -> None:
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    overlay.control("default-vpc", exists=False)
    own = attrs.evolve(aws_settings, subnets=(subnet,), instance_profile=profile)
    found = findings(own)
    assert {name for name, each in found.items() if not each.ok} <= {"spot quota"}
    overlay.control("refuse", action="CreateFleet", code="UnauthorizedOperation")
    denied = findings(own)["fleets"]
    assert not denied.ok
    assert "--policy" in denied.remedy


def test_doctor_passes_a_quota_that_was_never_set(overlay: OverlayProcess, aws_settings: AwsSettings) -> None:
    overlay.control("refuse", action="GetServiceQuota", code="NoSuchResourceException")
    assert findings(aws_settings)["spot quota"].ok


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
