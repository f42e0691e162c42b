"""Launches that leave the choice among several offers to EC2."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import attrs
import pytest
from ec2_launches import RequestOf, described, offer, request_for
from ec2_process import OverlayProcess

from cloud_tasks.errors import LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import Architecture, BootDisk, LaunchRequest, Purchase
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks.testing import eventually
from cloud_tasks_aws.compute.fleets import places_for
from cloud_tasks_aws.compute.opening import open_compute
from cloud_tasks_aws.settings import AwsSettings

PLACES = (("m5.large", "us-east-1c"), ("m5.large", "us-east-1a"), ("c5.large", "us-east-1b"))
"""Where the overlay's spot price is lowest: zone a, whatever the type."""
SCRIPT = '#!/bin/bash\necho "arrived as $CLOUD_TASKS_STARTED"\nsleep 600\n'

RequestOfMany = Callable[..., LaunchRequest]


@pytest.fixture
def request_of_many(job: str) -> RequestOfMany:
    def make(
        *places: tuple[str, str], purchase: Purchase = Purchase.SPOT, script: str = SCRIPT, **changes: Any
    ) -> LaunchRequest:
        first, *others = (offer(name, zone, purchase) for name, zone in places or PLACES)
        return request_for(job, first, alternatives=tuple(others), startup_script=script, **changes)

    return make


def fleets(overlay: OverlayProcess) -> int:
    return int(overlay.state()["actions"].count("CreateFleet"))


# What is chosen


def test_the_provider_chooses_and_the_instance_and_its_script_know_what(
    compute: Compute, request_of_many: RequestOfMany
) -> None:
    request = request_of_many()
    launched = compute.launch(request)
    assert (launched.instance_type, launched.zone) == ("m5.large", "us-east-1a")
    assert launched.purchase is Purchase.SPOT
    assert (launched.client_token, launched.job_id) == (request.client_token, request.job_id)
    assert dict(launched.labels) == dict(request.labels)
    eventually(lambda: "arrived as m5.large us-east-1a" in compute.console_log(launched.instance_id))
    assert [each.instance_id for each in compute.instances(request.job_id)] == [launched.instance_id]


def test_an_instance_of_a_fleet_is_as_safe_as_any_other(
    compute: Compute, ec2: Any, request_of_many: RequestOfMany, job: str
) -> None:
    found = described(ec2, compute.launch(request_of_many()))
    assert found["MetadataOptions"]["HttpTokens"] == "required"
    (mapping,) = found["BlockDeviceMappings"]
    (volume,) = ec2.describe_volumes(VolumeIds=[mapping["Ebs"]["VolumeId"]])["Volumes"]
    assert mapping["Ebs"]["DeleteOnTermination"] is True
    assert {"Key": "cloud-tasks-job", "Value": job} in volume["Tags"]


def test_power_off_ends_an_instance_of_a_fleet(compute: Compute, request_of_many: RequestOfMany, job: str) -> None:
    compute.launch(request_of_many(script="#!/bin/bash\nshutdown -h now\nsleep 600\n"))
    eventually(lambda: not any(each.is_alive for each in compute.instances(job)))


def test_on_demand_our_own_order_counts(compute: Compute, request_of_many: RequestOfMany) -> None:
    launched = compute.launch(request_of_many(purchase=Purchase.ON_DEMAND))
    assert (launched.instance_type, launched.zone) == PLACES[0]
    assert launched.purchase is Purchase.ON_DEMAND


def test_what_is_sold_out_is_passed_over(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany
) -> None:
    overlay.tell("stock-out", zone="us-east-1a")
    overlay.tell("stock-out", instance_type="c5.*")
    launched = compute.launch(request_of_many())
    assert (launched.instance_type, launched.zone) == ("m5.large", "us-east-1c")


def test_an_interface_of_the_users_wish_goes_into_the_offers_subnet(
    aws_settings: AwsSettings, request_of_many: RequestOfMany, context: ComputeContext
) -> None:
    own = attrs.evolve(aws_settings, public_address=True)
    with open_compute(own, context) as compute:
        launched = compute.launch(request_of_many())
        compute.terminate([launched.instance_id])
    assert launched.zone == "us-east-1a"


def test_only_what_one_template_can_serve_is_named_and_each_pool_once(request_of: RequestOf) -> None:
    subnets = {"us-east-1a": "subnet-a", "us-east-1b": "subnet-b"}
    own = offer("m5.large", "us-east-1a")
    will_not_do = (
        offer("t4g.large", "us-east-1b"),
        offer("c5.large", "us-east-1f"),
        offer("c5.large", "us-east-1b", Purchase.SPOT),
        attrs.evolve(offer("c5.large", "us-east-1b"), boot_disk=BootDisk(disk_type="gp2", size_gb=20)),
    )
    assert will_not_do[0].instance_type.architecture is Architecture.ARM64
    request = request_of(alternatives=(own, *will_not_do, offer("c5.xlarge", "us-east-1b")))
    places = places_for(attrs.evolve(request, offer=own), subnets)
    assert [(each.instance_type.name, subnet) for each, subnet in places] == [
        ("m5.large", "subnet-a"),
        ("c5.xlarge", "subnet-b"),
    ]


# What is refused


def test_only_when_all_are_refused_is_the_request(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany
) -> None:
    overlay.tell("stock-out")
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(request_of_many())
    assert (refused.value.scope, refused.value.reason) == (RefusalScope.OFFER, "InsufficientInstanceCapacity")


def test_what_was_said_of_others_blocks_neither_the_own_type_nor_for_longer(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany
) -> None:
    overlay.tell("stock-out", instance_type="c5.*", code="InvalidAMIID.Unavailable")
    overlay.tell("stock-out", instance_type="m5.*")
    # The own offer is the fourth, which a fleet does not come to any more.
    request = request_of_many(("m5.large", "us-east-1d"), *PLACES)
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(request)
    assert (refused.value.scope, refused.value.reason) == (RefusalScope.OFFER, "UnfulfillableCapacity")
    assert refused.value.retry_after <= timedelta(minutes=5)
    assert "InsufficientInstanceCapacity" in refused.value.message


def test_a_missing_permission_is_one_though_it_comes_inside_an_answer(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany
) -> None:
    overlay.tell("stock-out", zone="us-east-1b", code="UnauthorizedOperation")
    overlay.tell("stock-out")
    with pytest.raises(LaunchRefusedError, match="--policy") as refused:
        compute.launch(request_of_many())
    assert refused.value.scope is RefusalScope.ACCOUNT


def test_a_type_that_its_zone_lacks_is_left_alone_for_long_only_where_nothing_else_was_named(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany
) -> None:
    lacking = (("m5.large", "us-east-1c"), ("m5.large", "us-east-1a"))
    overlay.tell("stock-out", code="Unsupported")
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(request_of_many(*lacking))
    assert (refused.value.scope, refused.value.reason) == (RefusalScope.OFFER, "InvalidFleetConfiguration")
    assert refused.value.retry_after > timedelta(hours=1)
    overlay.tell("in-stock")
    overlay.tell("stock-out", zone="us-east-1c", code="Unsupported")
    overlay.tell("stock-out", zone="us-east-1a")
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(request_of_many(*lacking))
    assert refused.value.reason == "InvalidFleetConfiguration"
    assert refused.value.retry_after < timedelta(hours=1), "the other one will be had again soon"


def test_a_quota_of_other_families_blocks_nothing_of_the_own_ones(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany
) -> None:
    overlay.tell("stock-out", instance_type="g4dn.*", code="MaxSpotInstanceCountExceeded")
    overlay.tell("stock-out")
    own, others = ("m5.large", "us-east-1d"), (("m5.large", "us-east-1a"), ("m5.large", "us-east-1b"))
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(request_of_many(own, ("g4dn.xlarge", "us-east-1a"), *others))
    assert refused.value.scope is RefusalScope.OFFER


# Again and again


def test_one_token_starts_one_instance_of_all_that_would_do(compute: Compute, request_of_many: RequestOfMany) -> None:
    request = request_of_many()
    with ThreadPoolExecutor(4) as threads:
        ids = {each.instance_id for each in threads.map(compute.launch, [request] * 4)}
    assert {compute.launch(request).instance_id} == ids
    assert {each.instance_id for each in compute.instances(request.job_id)} == ids


def test_a_token_whose_offers_changed_still_means_the_same_instance(
    compute: Compute, request_of_many: RequestOfMany
) -> None:
    request = request_of_many()
    first = compute.launch(request)
    again = compute.launch(attrs.evolve(request, alternatives=request.alternatives[:1]))
    assert again.instance_id == first.instance_id


@pytest.mark.parametrize("code", ["InvalidGroup.NotFound", "RequestLimitExceeded"])
def test_a_fleet_that_failed_in_passing_is_followed_by_another_with_a_token_of_its_own(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany, code: str
) -> None:
    overlay.tell("stock-out", code=code, times=3)
    before = fleets(overlay)
    request = request_of_many()
    launched = compute.launch(request)
    assert fleets(overlay) - before == 2
    assert compute.launch(request).instance_id == launched.instance_id
    assert len(compute.instances(request.job_id)) == 1


def test_a_template_that_ec2_does_not_know_yet_is_waited_for(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany
) -> None:
    overlay.tell("hide-templates", count=2)
    request = request_of_many()
    compute.launch(request)
    assert len(compute.instances(request.job_id)) == 1
    assert overlay.state()["actions"].count("CreateLaunchTemplate") >= 1


def test_answers_that_are_cut_after_their_effect_start_one_instance_each(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany, job: str
) -> None:
    overlay.tell("faults", cut=0.2, throttle=0.1)
    ids = {compute.launch(request_of_many()).instance_id for _ in range(3)}
    overlay.tell("faults")
    assert {each.instance_id for each in compute.instances(job)} == ids
    assert len(ids) == 3


def test_an_instance_that_runs_and_cannot_be_described_is_not_called_refused(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany, job: str
) -> None:
    request = request_of_many()
    compute.instances(job)
    overlay.tell("hide-instances", hidden=True)
    try:
        with pytest.raises(ProviderError) as told:
            compute.launch(request)
    finally:
        overlay.tell("hide-instances", hidden=False)
    assert not isinstance(told.value, LaunchRefusedError)
    assert told.value.transient
    launched = compute.launch(request)
    assert [each.instance_id for each in compute.instances(job)] == [launched.instance_id]


def test_no_launch_template_is_left(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany, ec2: Any
) -> None:
    compute.launch(request_of_many())
    overlay.tell("stock-out")
    with pytest.raises(LaunchRefusedError):
        compute.launch(request_of_many())
    assert ec2.describe_launch_templates()["LaunchTemplates"] == []
