"""Classification of EC2 errors at launch."""

from __future__ import annotations

from datetime import timedelta

import attrs
import pytest
import structlog
from ec2_launches import RequestOf, offer
from ec2_process import OverlayProcess
from structlog.testing import capture_logs

from cloud_tasks.errors import LaunchFailedError, LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import ProvisioningModel
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks_aws.compute.backend import open_compute
from cloud_tasks_aws.settings import AwsSettings

MINUTES = timedelta(minutes=1)
STANDARD_ON_DEMAND, G_ON_DEMAND = "L-1216C47A", "L-DB2E81BA"


@pytest.mark.parametrize(
    ("code", "scope"),
    [("InsufficientInstanceCapacity", RefusalScope.OFFER), ("UnauthorizedOperation", RefusalScope.ACCOUNT)],
)
def test_refusal_has_scope_and_retry_delay(
    overlay: OverlayProcess, compute: Compute, request_of: RequestOf, code: str, scope: RefusalScope
) -> None:
    overlay.control("stock-out", code=code)
    calls = overlay.state()["actions"].count("RunInstances")
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(request_of())
    assert (refused.value.scope, refused.value.reason) == (scope, code)
    assert timedelta(0) < refused.value.retry_after <= 5 * MINUTES
    assert "t3.medium (on-demand) in us-east-1a" in refused.value.message
    assert overlay.state()["actions"].count("RunInstances") - calls == 1, "a refusal must not be retried"


def test_explicit_deny_refuses_one_type(overlay: OverlayProcess, compute: Compute, request_of: RequestOf) -> None:
    message = "You are not authorized to perform: ec2:RunInstances with an explicit deny in a service control policy."
    overlay.control("stock-out", instance_type="m5.*", code="UnauthorizedOperation", message=message)
    with pytest.raises(LaunchRefusedError, match="denied by a policy") as refused:
        compute.launch(request_of("m5.large"))
    assert refused.value.scope is RefusalScope.INSTANCE_TYPE
    compute.launch(request_of())


def test_missing_instance_profile_refuses_the_account(
    aws_settings: AwsSettings, request_of: RequestOf, context: ComputeContext
) -> None:
    own = attrs.evolve(aws_settings, instance_profile="missing")
    with open_compute(own, context) as compute, pytest.raises(LaunchRefusedError, match="instance_profile") as refused:
        compute.launch(request_of())
    assert refused.value.scope is RefusalScope.ACCOUNT
    # A new profile is not visible everywhere yet.
    assert refused.value.retry_after <= 5 * MINUTES


# Before the launch


@pytest.mark.parametrize(
    ("action", "code", "remedy"),
    [
        ("GetParameter", "AccessDeniedException", "--policy"),
        ("DescribeImages", "UnauthorizedOperation", "--policy"),
        ("DescribeSubnets", "UnauthorizedOperation", "--policy"),
        ("DescribeSubnets", "InvalidSubnetID.NotFound", "aws.subnets"),
        ("DescribeSecurityGroups", "UnauthorizedOperation", "--policy"),
    ],
)
def test_refusal_of_the_preparation_refuses_the_launch(
    overlay: OverlayProcess, compute: Compute, request_of: RequestOf, action: str, code: str, remedy: str
) -> None:
    overlay.control("refuse", action=action, code=code)
    with pytest.raises(LaunchRefusedError, match=code) as refused:
        compute.launch(request_of())
    assert (refused.value.scope, refused.value.needs_action) == (RefusalScope.ACCOUNT, True)
    assert remedy in refused.value.hint


def test_unknown_error_of_the_preparation_is_a_failed_launch(
    overlay: OverlayProcess, compute: Compute, request_of: RequestOf
) -> None:
    overlay.control("refuse", action="DescribeVpcs", code="InvalidParameterValue", message="odd")
    with pytest.raises(LaunchFailedError, match="odd"):
        compute.launch(request_of())


def test_regions_leave_out_those_that_are_denied(overlay: OverlayProcess, compute: Compute) -> None:
    overlay.control("refuse", action="DescribeAvailabilityZones", code="UnauthorizedOperation", region="us-west-2")
    assert {each.name for each in compute.regions()} == {"us-east-1", "eu-central-1"}


def test_regions_include_those_that_do_not_answer(overlay: OverlayProcess, compute: Compute) -> None:
    overlay.control("refuse", action="DescribeAvailabilityZones", code="Unavailable", region="us-west-2")
    with capture_logs() as logs:
        found = {each.name: bool(each.zones) for each in compute.regions()}
    assert found == {"us-east-1": True, "eu-central-1": True, "us-west-2": False}
    assert any("us-west-2" in each["event"] for each in logs if each["log_level"] == "warning")


# Quotas


def test_type_above_the_quota_is_refused_alone(
    overlay: OverlayProcess, compute: Compute, request_of: RequestOf
) -> None:
    overlay.control("quota", code=STANDARD_ON_DEMAND, value=5)
    overlay.control("stock-out", instance_type="m5.*", code="VcpuLimitExceeded")
    with pytest.raises(LaunchRefusedError, match="8 vCPUs exceed the quota of 5") as refused:
        compute.launch(request_of(offer=offer("m5.2xlarge", vcpus=8)))
    overlay.control("quota", code=STANDARD_ON_DEMAND, value=256)
    assert refused.value.scope is RefusalScope.INSTANCE_TYPE
    assert refused.value.retry_after > timedelta(hours=1)
    assert refused.value.needs_action


def test_quota_of_few_families_refuses_the_type_only(
    overlay: OverlayProcess, compute: Compute, request_of: RequestOf
) -> None:
    overlay.control("stock-out", instance_type="g4dn.*", code="VcpuLimitExceeded")
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(request_of("g4dn.xlarge"))
    assert refused.value.scope is RefusalScope.INSTANCE_TYPE
    assert refused.value.retry_after <= 15 * MINUTES


def test_unknown_refusal_of_several_types_is_about_every_launch(
    overlay: OverlayProcess, compute: Compute, request_of: RequestOf
) -> None:
    overlay.control("stock-out", code="SomethingNew")
    found = []
    for name in ("m5.large", "m5.large", "c5.large", "r5.large"):
        with pytest.raises(LaunchRefusedError, match="SomethingNew") as refused:
            compute.launch(request_of(name))
        found.append((refused.value.scope, refused.value.needs_action, bool(refused.value.hint)))
    assert found[:3] == [(RefusalScope.INSTANCE_TYPE, False, False)] * 3
    assert found[3] == (RefusalScope.ACCOUNT, True, True)


# Transient errors


def test_launch_retries_unknown_group_only_if_created_by_cloud_tasks(
    overlay: OverlayProcess, compute: Compute, aws_settings: AwsSettings, request_of: RequestOf, context: ComputeContext
) -> None:
    overlay.control("stock-out", code="InvalidGroup.NotFound", times=2)
    compute.launch(request_of())
    overlay.control("stock-out", code="InvalidGroup.NotFound", times=2)
    own = attrs.evolve(aws_settings, security_groups=("default",))
    with (
        open_compute(own, context) as configured,
        pytest.raises(LaunchRefusedError, match="security_groups") as refused,
    ):
        configured.launch(request_of())
    assert refused.value.scope is RefusalScope.ACCOUNT


def test_retry_logs_at_debug_level(overlay: OverlayProcess, compute: Compute, request_of: RequestOf) -> None:
    overlay.control("stock-out", code="Unavailable", times=2)
    structlog.reset_defaults()
    with capture_logs() as entries:
        compute.launch(request_of(startup_script="#!/bin/sh\necho not-to-be-shown\nsleep 600\n"))
    assert [each["log_level"] for each in entries] == ["debug", "debug"]
    assert entries[0]["reason"] == "Unavailable"
    assert "not-to-be-shown" not in repr(entries)


def test_persistent_connection_error_is_transient(unreachable: Compute, request_of: RequestOf) -> None:
    with pytest.raises(ProviderError) as raised:
        unreachable.launch(request_of(provisioning_model=ProvisioningModel.SPOT))
    assert raised.value.transient
    assert not isinstance(raised.value, LaunchRefusedError)
