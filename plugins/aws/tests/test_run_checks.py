"""Checks of an account before a run: what certainly prevents it, found without launching or creating anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from ec2_launches import offer, request_for
from ec2_process import OverlayProcess

from cloud_tasks.model import LaunchRequest
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.registry import Registry
from cloud_tasks_aws.settings import AwsSettings

REGISTRY = Registry(only=["aws"])


def problems(settings: AwsSettings, launch: LaunchRequest | None = None, *, queue: str = "redis") -> dict[str, Finding]:
    """Return the findings of queue and compute that prevent a run, by subject; the others must have passed."""
    launch = launch or request_for("job", offer())
    context = CheckContext(region="us-east-1", queue=queue, launch=launch)
    found = []
    for backend in (REGISTRY.queue("aws"), REGISTRY.compute("aws")):
        assert backend.check is not None
        found += list(backend.check(settings, context))
    assert [each for each in found if not each.ok and not each.prevents_run] == []
    return {each.subject: each for each in found if not each.ok}


def test_check_before_run_passes_and_creates_nothing(overlay: OverlayProcess, aws_settings: AwsSettings) -> None:
    before = overlay.state()
    assert problems(aws_settings) == {}
    after = overlay.state()
    assert after["instances"] == before["instances"]
    asked = after["actions"][len(before["actions"]) :]
    assert "RunInstances" in asked
    assert [each for each in asked if each.startswith(("Create", "Authorize", "Delete"))] == []


def test_check_before_run_makes_a_dry_run_of_the_first_launch(
    overlay: OverlayProcess, aws_settings: AwsSettings
) -> None:
    overlay.control("stock-out", instance_type="m5.large", code="UnauthorizedOperation", message="not authorized")
    assert problems(aws_settings) == {}
    found = problems(aws_settings, request_for("job", offer("m5.large")))
    assert list(found) == ["launching"]
    assert "UnauthorizedOperation: not authorized" in found["launching"].message
    assert "--policy" in found["launching"].remedy


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("InvalidKeyPair.NotFound", "The key pair 'mine' does not exist"),
        ("InvalidParameterValue", "Value (workers) for parameter iamInstanceProfile.name is invalid"),
    ],
)
def test_check_before_run_finds_what_a_dry_run_reports(
    overlay: OverlayProcess, aws_settings: AwsSettings, code: str, message: str
) -> None:
    overlay.control("stock-out", code=code, message=message)
    found = problems(aws_settings)["launching"]
    assert message in found.message
    assert found.remedy


def test_check_before_run_ignores_what_a_policy_denies_for_one_type(
    overlay: OverlayProcess, aws_settings: AwsSettings
) -> None:
    message = "You are not authorized to perform: ec2:RunInstances with an explicit deny in a service control policy."
    overlay.control("stock-out", code="UnauthorizedOperation", message=message)
    context = CheckContext(region="us-east-1", launch=request_for("job", offer()))
    check = REGISTRY.compute("aws").check
    assert check is not None
    found = {each.subject: each for each in check(aws_settings, context)}["launching"]
    assert (found.ok, found.prevents_run) == (False, False)


def test_check_before_run_finds_missing_subnets_and_groups(aws_settings: AwsSettings) -> None:
    found = problems(attrs.evolve(aws_settings, subnets=("subnet-0123456789abcdef0",)))
    assert "subnet-0123456789abcdef0" in found["network"].message
    found = problems(attrs.evolve(aws_settings, security_groups=("missing-group",)))
    assert "aws.security_groups: missing-group not found" in found["launching"].message


def test_check_before_run_requires_an_instance_profile_for_sqs(aws_settings: AwsSettings) -> None:
    found = problems(aws_settings, queue="aws")
    assert list(found) == ["instance profile"]
    assert "aws.instance_profile" in found["instance profile"].remedy
    assert problems(attrs.evolve(aws_settings, instance_profile=""), queue="aws") == {}
    assert problems(aws_settings) == {}
    assert list(problems(attrs.evolve(aws_settings, instance_profile="missing"), queue="aws")) == ["instance profile"]


def test_check_before_run_without_credentials_names_the_remedy_once(
    overlay: OverlayProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    found = problems(AwsSettings(endpoint_url=overlay.url))
    assert list(found) == ["SQS", "credentials"]
    assert all("aws configure" in each.remedy for each in found.values())


def test_check_before_run_is_not_prevented_by_an_outage(aws_settings: AwsSettings) -> None:
    gone = attrs.evolve(aws_settings, endpoint_url="http://127.0.0.1:9")
    context = CheckContext(region="us-east-1", launch=request_for("job", offer()))
    backends: list[Any] = [REGISTRY.queue("aws"), REGISTRY.compute("aws")]
    found = [finding for backend in backends for finding in backend.check(gone, context)]
    assert found
    assert not any(each.ok or each.prevents_run for each in found)
