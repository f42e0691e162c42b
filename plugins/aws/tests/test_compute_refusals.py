"""What it means that EC2 will not start an instance."""

from __future__ import annotations

from datetime import timedelta

import attrs
import pytest
import structlog
from ec2_launches import RequestOf, offer
from ec2_process import OverlayProcess
from structlog.testing import capture_logs

from cloud_tasks.errors import LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import Purchase
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks_aws.compute.opening import open_compute
from cloud_tasks_aws.settings import AwsSettings

MINUTES = timedelta(minutes=1)
STANDARD_ON_DEMAND, G_ON_DEMAND = "L-1216C47A", "L-DB2E81BA"


@pytest.mark.parametrize(
    ("code", "scope", "at_most"),
    [
        ("InsufficientInstanceCapacity", RefusalScope.OFFER, 5),
        ("InsufficientCapacityOnSomethingNew", RefusalScope.OFFER, 5),
        ("SpotMaxPriceTooLow", RefusalScope.OFFER, 15),
        ("Unsupported", RefusalScope.OFFER, 24 * 60),
        ("InsufficientFreeAddressesInSubnet", RefusalScope.ZONE, 15),
        # Room comes back with every instance that ends.
        ("VcpuLimitExceeded", RefusalScope.REGION, 5),
        ("MaxSpotInstanceCountExceeded", RefusalScope.REGION, 5),
        ("InstanceLimitExceeded", RefusalScope.REGION, 5),
        ("VolumeLimitExceeded", RefusalScope.REGION, 5),
        ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", RefusalScope.REGION, 15),
        # What a person has to mend: soon after, the job goes on.
        ("UnauthorizedOperation", RefusalScope.ACCOUNT, 5),
        ("InvalidSubnetID.NotFound", RefusalScope.ACCOUNT, 5),
        ("InvalidKeyPair.NotFound", RefusalScope.ACCOUNT, 5),
        ("PendingVerification", RefusalScope.ACCOUNT, 15),
        ("OptInRequired", RefusalScope.ACCOUNT, 15),
        ("Blocked", RefusalScope.ACCOUNT, 60),
        ("InvalidAMIID.Unavailable", RefusalScope.INSTANCE_TYPE, 60),
        # It may be the type's fault, and to stop all launches may cost the job.
        ("SomethingNew", RefusalScope.INSTANCE_TYPE, 15),
    ],
)
def test_a_refusal_says_what_to_avoid_and_for_how_long(
    overlay: OverlayProcess, compute: Compute, request_of: RequestOf, code: str, scope: RefusalScope, at_most: int
) -> None:
    overlay.tell("stock-out", code=code)
    calls = overlay.state()["actions"].count("RunInstances")
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(request_of())
    assert (refused.value.scope, refused.value.reason) == (scope, code)
    assert timedelta(0) < refused.value.retry_after <= at_most * MINUTES
    assert "t3.medium (on-demand) in us-east-1a" in refused.value.message
    assert overlay.state()["actions"].count("RunInstances") - calls == 1, "a refusal is not asked for again"


def test_what_an_organization_forbids_of_one_type_leaves_the_others(
    overlay: OverlayProcess, compute: Compute, request_of: RequestOf
) -> None:
    message = "You are not authorized to perform: ec2:RunInstances with an explicit deny in a service control policy."
    overlay.tell("stock-out", instance_type="m5.*", code="UnauthorizedOperation", message=message)
    with pytest.raises(LaunchRefusedError, match="forbids it") as refused:
        compute.launch(request_of("m5.large"))
    assert refused.value.scope is RefusalScope.INSTANCE_TYPE
    compute.launch(request_of())


def test_an_instance_profile_that_does_not_exist_is_a_refusal_of_every_launch(
    aws_settings: AwsSettings, request_of: RequestOf, context: ComputeContext
) -> None:
    own = attrs.evolve(aws_settings, instance_profile="nobody")
    with open_compute(own, context) as compute, pytest.raises(LaunchRefusedError, match="instance_profile") as refused:
        compute.launch(request_of())
    assert refused.value.scope is RefusalScope.ACCOUNT
    # A profile that was made a moment ago is not known everywhere.
    assert refused.value.retry_after <= 5 * MINUTES


# Quotas


def test_a_type_that_is_larger_than_its_quota_is_left_alone_and_smaller_ones_are_not(
    overlay: OverlayProcess, compute: Compute, request_of: RequestOf
) -> None:
    overlay.tell("quota", code=STANDARD_ON_DEMAND, value=5)
    overlay.tell("stock-out", instance_type="m5.*", code="VcpuLimitExceeded")
    with pytest.raises(LaunchRefusedError, match="it has 8 vCPUs, the quota is 5") as refused:
        compute.launch(request_of(offer=offer("m5.2xlarge", vcpus=8)))
    overlay.tell("quota", code=STANDARD_ON_DEMAND, value=256)
    assert refused.value.scope is RefusalScope.INSTANCE_TYPE
    assert refused.value.retry_after > timedelta(hours=1)


def test_a_quota_of_few_families_does_not_keep_the_others_from_being_tried(
    overlay: OverlayProcess, compute: Compute, request_of: RequestOf
) -> None:
    overlay.tell("stock-out", instance_type="g4dn.*", code="VcpuLimitExceeded")
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(request_of("g4dn.xlarge"))
    assert refused.value.scope is RefusalScope.INSTANCE_TYPE
    assert refused.value.retry_after <= 15 * MINUTES


# Trouble that passes


def test_a_group_that_was_just_made_is_waited_for_and_one_of_the_users_is_not(
    overlay: OverlayProcess, compute: Compute, aws_settings: AwsSettings, request_of: RequestOf, context: ComputeContext
) -> None:
    overlay.tell("stock-out", code="InvalidGroup.NotFound", times=2)
    compute.launch(request_of())
    overlay.tell("stock-out", code="InvalidGroup.NotFound", times=2)
    own = attrs.evolve(aws_settings, security_groups=("default",))
    with (
        open_compute(own, context) as of_the_user,
        pytest.raises(LaunchRefusedError, match="security_groups") as refused,
    ):
        of_the_user.launch(request_of())
    assert refused.value.scope is RefusalScope.ACCOUNT


def test_what_passes_is_no_news_to_the_user(overlay: OverlayProcess, compute: Compute, request_of: RequestOf) -> None:
    overlay.tell("stock-out", code="RequestLimitExceeded", times=2)
    structlog.reset_defaults()
    with capture_logs() as entries:
        compute.launch(request_of(startup_script="#!/bin/sh\necho do-not-tell\nsleep 600\n"))
    assert [each["log_level"] for each in entries] == ["debug", "debug"]
    assert entries[0]["reason"] == "RequestLimitExceeded"
    assert "do-not-tell" not in repr(entries)


def test_trouble_that_lasts_is_told_as_passing(impatient: Compute, request_of: RequestOf) -> None:
    with pytest.raises(ProviderError) as told:
        impatient.launch(request_of(purchase=Purchase.SPOT))
    assert told.value.transient
    assert not isinstance(told.value, LaunchRefusedError)
