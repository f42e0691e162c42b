"""Launches from fleets, in which EC2 selects one of several offers."""

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
from cloud_tasks.model import Architecture, BootDisk, LaunchRequest, ProvisioningModel
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks.testing import eventually
from cloud_tasks_aws.compute.backend import open_compute
from cloud_tasks_aws.compute.fleets import fleet_arguments, places_for
from cloud_tasks_aws.settings import AwsSettings

PLACES = (("m5.large", "us-east-1c"), ("m5.large", "us-east-1a"), ("c5.large", "us-east-1b"))
"""The overlay's spot price is lowest in zone a for every type."""
SCRIPT = '#!/bin/bash\necho "arrived as $CLOUD_TASKS_STARTED"\nsleep 600\n'

RequestOfMany = Callable[..., LaunchRequest]


@pytest.fixture
def request_of_many(job: str) -> RequestOfMany:
    def make(
        *places: tuple[str, str],
        provisioning_model: ProvisioningModel = ProvisioningModel.SPOT,
        script: str = SCRIPT,
        **changes: Any,
    ) -> LaunchRequest:
        first, *others = (offer(name, zone, provisioning_model) for name, zone in places or PLACES)
        return request_for(job, first, alternatives=tuple(others), startup_script=script, **changes)

    return make


def fleets(overlay: OverlayProcess) -> int:
    return int(overlay.state()["actions"].count("CreateFleet"))


# Selection


def test_launch_from_fleet_reports_the_selected_offer_to_controller_and_script(
    compute: Compute, request_of_many: RequestOfMany
) -> None:
    request = request_of_many()
    launched = compute.launch(request)
    assert (launched.instance_type, launched.zone) == ("m5.large", "us-east-1a")
    assert launched.provisioning_model is ProvisioningModel.SPOT
    assert (launched.client_token, launched.job_id) == (request.client_token, request.job_id)
    assert dict(launched.labels) == dict(request.labels)
    eventually(lambda: "arrived as m5.large us-east-1a" in compute.console_log(launched.instance_id))
    assert [each.instance_id for each in compute.instances(request.job_id)] == [launched.instance_id]


def test_fleet_instance_has_imdsv2_and_deletes_its_volume(
    compute: Compute, ec2: Any, request_of_many: RequestOfMany, job: str
) -> None:
    found = described(ec2, compute.launch(request_of_many()))
    assert found["MetadataOptions"]["HttpTokens"] == "required"
    (mapping,) = found["BlockDeviceMappings"]
    (volume,) = ec2.describe_volumes(VolumeIds=[mapping["Ebs"]["VolumeId"]])["Volumes"]
    assert mapping["Ebs"]["DeleteOnTermination"] is True
    assert {"Key": "cloud-tasks-job", "Value": job} in volume["Tags"]


def test_fleet_limits_the_price_of_each_spot_offer() -> None:
    places = [(offer(name, zone, ProvisioningModel.SPOT), f"subnet-{zone}") for name, zone in PLACES]
    fleet = fleet_arguments("template", "token", places, max_price="0.0392", tags=[])
    (configs,) = fleet["LaunchTemplateConfigs"]
    assert [each["MaxPrice"] for each in configs["Overrides"]] == ["0.0392"] * 3
    unlimited = fleet_arguments("template", "token", places, max_price=None, tags=[])
    assert not any("MaxPrice" in each for each in unlimited["LaunchTemplateConfigs"][0]["Overrides"])


def test_places_of_a_fleet_have_one_credit_mode(request_of_many: RequestOfMany) -> None:
    request = request_of_many(("t3.large", "us-east-1a"), ("m5.large", "us-east-1a"), ("t3a.large", "us-east-1a"))
    places = places_for(request, {"us-east-1a": "subnet-1"})
    assert [each.instance_type.name for each, _ in places] == ["t3.large", "t3a.large"]


def test_power_off_terminates_a_fleet_instance(compute: Compute, request_of_many: RequestOfMany, job: str) -> None:
    compute.launch(request_of_many(script="#!/bin/bash\nshutdown -h now\nsleep 600\n"))
    eventually(lambda: not any(each.is_alive for each in compute.instances(job)))


def test_on_demand_fleet_follows_the_request_order(compute: Compute, request_of_many: RequestOfMany) -> None:
    launched = compute.launch(request_of_many(provisioning_model=ProvisioningModel.ON_DEMAND))
    assert (launched.instance_type, launched.zone) == PLACES[0]
    assert launched.provisioning_model is ProvisioningModel.ON_DEMAND


def test_fleet_skips_offers_without_capacity(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany
) -> None:
    overlay.control("stock-out", zone="us-east-1a")
    overlay.control("stock-out", instance_type="c5.*")
    launched = compute.launch(request_of_many())
    assert (launched.instance_type, launched.zone) == ("m5.large", "us-east-1c")


def test_fleet_with_public_address_uses_the_offers_subnet(
    aws_settings: AwsSettings, request_of_many: RequestOfMany, context: ComputeContext
) -> None:
    own = attrs.evolve(aws_settings, public_address=True)
    with open_compute(own, context) as compute:
        launched = compute.launch(request_of_many())
        compute.terminate([launched.instance_id])
    assert launched.zone == "us-east-1a"


def test_places_for_lists_compatible_pools_once(request_of: RequestOf) -> None:
    subnets = {"us-east-1a": "subnet-a", "us-east-1b": "subnet-b"}
    own = offer("m5.large", "us-east-1a")
    incompatible = (
        offer("t4g.large", "us-east-1b"),
        offer("c5.large", "us-east-1f"),
        offer("c5.large", "us-east-1b", ProvisioningModel.SPOT),
        attrs.evolve(offer("c5.large", "us-east-1b"), boot_disk=BootDisk(disk_type="gp2", size_gb=20)),
    )
    assert incompatible[0].instance_type.architecture is Architecture.ARM64
    request = request_of(alternatives=(own, *incompatible, offer("c5.xlarge", "us-east-1b")))
    places = places_for(attrs.evolve(request, offer=own), subnets)
    assert [(each.instance_type.name, subnet) for each, subnet in places] == [
        ("m5.large", "subnet-a"),
        ("c5.xlarge", "subnet-b"),
    ]


# Refusals


def test_fleet_launch_is_refused_only_when_every_offer_is(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany
) -> None:
    overlay.control("stock-out")
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(request_of_many())
    assert (refused.value.scope, refused.value.reason) == (RefusalScope.OFFER, "InsufficientInstanceCapacity")


def test_fleet_refusal_of_other_offers_never_blocks_the_own_type(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany
) -> None:
    overlay.control("stock-out", instance_type="c5.*", code="InvalidParameterCombination")
    overlay.control("stock-out", instance_type="m5.*")
    # A fleet tries three offers; the request's own is the fourth.
    request = request_of_many(("m5.large", "us-east-1d"), *PLACES)
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(request)
    assert (refused.value.scope, refused.value.reason) == (RefusalScope.OFFER, "UnfulfillableCapacity")
    assert refused.value.retry_after <= timedelta(minutes=5)
    assert "InsufficientInstanceCapacity" in refused.value.message


def test_fleet_permission_error_refuses_the_account(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany
) -> None:
    overlay.control("stock-out", zone="us-east-1b", code="UnauthorizedOperation")
    overlay.control("stock-out")
    with pytest.raises(LaunchRefusedError, match="--policy") as refused:
        compute.launch(request_of_many())
    assert refused.value.scope is RefusalScope.ACCOUNT


def test_fleet_retry_delay_is_the_shortest_of_all_refusals(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany
) -> None:
    lacking = (("m5.large", "us-east-1c"), ("m5.large", "us-east-1a"))
    overlay.control("stock-out", code="Unsupported")
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(request_of_many(*lacking))
    assert (refused.value.scope, refused.value.reason) == (RefusalScope.OFFER, "InvalidFleetConfiguration")
    assert refused.value.retry_after > timedelta(hours=1)
    overlay.control("in-stock")
    overlay.control("stock-out", zone="us-east-1c", code="Unsupported")
    overlay.control("stock-out", zone="us-east-1a")
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(request_of_many(*lacking))
    assert refused.value.reason == "InvalidFleetConfiguration"
    assert refused.value.retry_after < timedelta(hours=1), "capacity for the other offer may return soon"


def test_fleet_ignores_quotas_of_other_families(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany
) -> None:
    overlay.control("stock-out", instance_type="g4dn.*", code="MaxSpotInstanceCountExceeded")
    overlay.control("stock-out")
    own, others = ("m5.large", "us-east-1d"), (("m5.large", "us-east-1a"), ("m5.large", "us-east-1b"))
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(request_of_many(own, ("g4dn.xlarge", "us-east-1a"), *others))
    assert refused.value.scope is RefusalScope.OFFER


# Retries and client tokens


def test_client_token_starts_one_fleet_instance(compute: Compute, request_of_many: RequestOfMany) -> None:
    request = request_of_many()
    with ThreadPoolExecutor(4) as threads:
        ids = {each.instance_id for each in threads.map(compute.launch, [request] * 4)}
    assert {compute.launch(request).instance_id} == ids
    assert {each.instance_id for each in compute.instances(request.job_id)} == ids


def test_client_token_with_other_alternatives_returns_the_same_instance(
    compute: Compute, request_of_many: RequestOfMany
) -> None:
    request = request_of_many()
    first = compute.launch(request)
    again = compute.launch(attrs.evolve(request, alternatives=request.alternatives[:1]))
    assert again.instance_id == first.instance_id


@pytest.mark.parametrize("code", ["InvalidGroup.NotFound", "RequestLimitExceeded"])
def test_fleet_with_transient_error_is_retried_with_a_derived_token(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany, code: str
) -> None:
    overlay.control("stock-out", code=code, times=3)
    before = fleets(overlay)
    request = request_of_many()
    launched = compute.launch(request)
    assert fleets(overlay) - before == 2
    assert compute.launch(request).instance_id == launched.instance_id
    assert len(compute.instances(request.job_id)) == 1


def test_fleet_retries_until_its_template_is_visible(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany
) -> None:
    overlay.control("hide-templates", count=2)
    request = request_of_many()
    compute.launch(request)
    assert len(compute.instances(request.job_id)) == 1
    assert overlay.state()["actions"].count("CreateLaunchTemplate") >= 1


def test_fleet_with_lost_responses_starts_one_instance_per_request(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany, job: str
) -> None:
    overlay.control("faults", cut=0.2, throttle=0.1)
    ids = {compute.launch(request_of_many()).instance_id for _ in range(3)}
    overlay.control("faults")
    assert {each.instance_id for each in compute.instances(job)} == ids
    assert len(ids) == 3


def test_launch_of_undescribable_instance_is_transient_not_refused(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany, job: str
) -> None:
    request = request_of_many()
    compute.instances(job)
    overlay.control("hide-instances", hidden=True)
    try:
        with pytest.raises(ProviderError) as raised:
            compute.launch(request)
    finally:
        overlay.control("hide-instances", hidden=False)
    assert not isinstance(raised.value, LaunchRefusedError)
    assert raised.value.transient
    launched = compute.launch(request)
    assert [each.instance_id for each in compute.instances(job)] == [launched.instance_id]


def test_launches_of_a_wave_share_a_template_until_the_backend_closes(
    overlay: OverlayProcess,
    aws_settings: AwsSettings,
    context: ComputeContext,
    request_of_many: RequestOfMany,
    ec2: Any,
) -> None:
    before = len(overlay.state()["actions"])
    with open_compute(aws_settings, context) as compute, ThreadPoolExecutor(4) as threads:
        requests = [request_of_many(labels={"run": "r1", "expires": str(number)}) for number in range(8)]
        launched = list(threads.map(compute.launch, requests))
        assert [(each.client_token, dict(each.labels)) for each in launched] == [
            (each.client_token, dict(each.labels)) for each in requests
        ]
        overlay.control("stock-out")
        with pytest.raises(LaunchRefusedError):
            compute.launch(request_of_many())
        actions = overlay.state()["actions"][before:]
        assert actions.count("CreateLaunchTemplate") == 1
        assert "DeleteLaunchTemplate" not in actions
        compute.terminate([each.instance_id for each in launched])
    assert ec2.describe_launch_templates()["LaunchTemplates"] == []


def test_template_that_no_launch_needs_is_replaced(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany, ec2: Any
) -> None:
    for number in range(3):
        compute.launch(request_of_many(script=f"{SCRIPT}# {number}\n"))
        assert len(ec2.describe_launch_templates()["LaunchTemplates"]) == 1


def test_template_that_another_command_deleted_is_made_again(
    compute: Compute, request_of_many: RequestOfMany, ec2: Any, job: str
) -> None:
    compute.launch(request_of_many())
    (template,) = ec2.describe_launch_templates()["LaunchTemplates"]
    ec2.delete_launch_template(LaunchTemplateName=template["LaunchTemplateName"])
    compute.launch(request_of_many())
    assert len(compute.instances(job)) == 2


@pytest.mark.parametrize("command", ["run", "stop", "list"])
def test_template_of_a_killed_controller_is_deleted_by_the_next_command_that_changes_the_job(
    aws_settings: AwsSettings, context: ComputeContext, request_of_many: RequestOfMany, ec2: Any, command: str
) -> None:
    tags = [{"ResourceType": "launch-template", "Tags": [{"Key": "cloud-tasks-job", "Value": context.job_id}]}]
    data = {"InstanceType": "t3.micro"}
    names = [f"cloud-tasks-{context.job_id}", f"cloud-tasks-other-{context.job_id}"]
    ec2.create_launch_template(LaunchTemplateName=names[0], LaunchTemplateData=data, TagSpecifications=tags)
    ec2.create_launch_template(LaunchTemplateName=names[1], LaunchTemplateData=data)
    with open_compute(aws_settings, context) as compute:
        found = [compute.launch(request_of_many()).instance_id] if command == "run" else []
        if command == "stop":
            compute.terminate(["i-0123456789abcdef0"])
        compute.instances(context.job_id)
    left = [each["LaunchTemplateName"] for each in ec2.describe_launch_templates()["LaunchTemplates"]]
    assert left == (names if command == "list" else names[1:])
    for each in left:
        ec2.delete_launch_template(LaunchTemplateName=each)
    if found:
        ec2.terminate_instances(InstanceIds=found)


# Accounts without fleets


@pytest.mark.parametrize(
    ("action", "code"),
    [
        ("CreateFleet", "MaxFleetCountExceeded"),
        ("CreateFleet", "UnauthorizedOperation"),
        ("CreateLaunchTemplate", "UnauthorizedOperation"),
    ],
)
def test_account_without_fleets_launches_its_own_offer_directly(
    overlay: OverlayProcess, compute: Compute, request_of_many: RequestOfMany, action: str, code: str
) -> None:
    overlay.control("refuse", action=action, code=code)
    before = overlay.state()["actions"].count(action)
    for _ in range(2):
        launched = compute.launch(request_of_many())
        assert (launched.instance_type, launched.zone) == PLACES[0]
    assert overlay.state()["actions"].count(action) == before, "another fleet was requested"
