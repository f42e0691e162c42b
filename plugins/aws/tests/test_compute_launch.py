"""Launch arguments and the launched instance."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest
from ec2_launches import RequestOf, described, offer, request_for
from ec2_process import OverlayProcess

from cloud_tasks.errors import LaunchFailedError, LaunchRefusedError, RefusalScope
from cloud_tasks.model import Instance, LaunchRequest, Money, ProvisioningModel
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks_aws.compute.backend import open_compute
from cloud_tasks_aws.compute.build import launch_arguments
from cloud_tasks_aws.compute.image_resolver import BootImage
from cloud_tasks_aws.compute.network import GROUP_NAME, Network
from cloud_tasks_aws.compute.tags import tags_of
from cloud_tasks_aws.settings import AwsSettings


def test_launch_sets_tags_security_group_and_imdsv2(
    compute: Compute, ec2: Any, request_of: RequestOf, job: str
) -> None:
    found = described(ec2, compute.launch(request_of()))
    tags = {tag["Key"]: tag["Value"] for tag in found["Tags"]}
    assert tags["cloud-tasks-job"] == job
    assert tags["cloud-tasks-expires"] == "2000000000"
    (group,) = found["SecurityGroups"]
    assert group["GroupName"] == GROUP_NAME
    rules = ec2.describe_security_groups(GroupIds=[group["GroupId"]])["SecurityGroups"][0]["IpPermissions"]
    assert rules == []
    assert found["MetadataOptions"]["HttpTokens"] == "required"


def test_launch_creates_tagged_volume_deleted_with_the_instance(
    compute: Compute, ec2: Any, request_of: RequestOf, job: str
) -> None:
    found = described(ec2, compute.launch(request_of()))
    (mapping,) = found["BlockDeviceMappings"]
    assert mapping["DeviceName"] == found["RootDeviceName"]
    assert mapping["Ebs"]["DeleteOnTermination"] is True
    (volume,) = ec2.describe_volumes(VolumeIds=[mapping["Ebs"]["VolumeId"]])["Volumes"]
    assert (volume["Size"], volume["VolumeType"]) == (20, "gp3")
    assert {"Key": "cloud-tasks-job", "Value": job} in volume["Tags"]


@pytest.mark.parametrize(("own", "shown"), [({}, "cloud-tasks job"), ({"Name": "mine"}, "mine")])
def test_launch_has_the_name_of_the_settings(request_of: RequestOf, own: dict[str, str], shown: str) -> None:
    tags = {each["Key"]: each["Value"] for each in tags_of(attrs.evolve(request_of(), job_id="job"), own)}
    assert (tags["Name"], tags["cloud-tasks-job"]) == (shown, "job")


def test_launch_arguments_include_fields_that_emulators_ignore(request_of: RequestOf) -> None:
    image = BootImage(image_id="ami-1", root_device="/dev/sda1", size_gb=30)
    settings = AwsSettings(
        instance_profile="arn:aws:iam::1:instance-profile/workers", encrypt_boot_disk=True, tags={"CostCenter": "42"}
    )
    request = request_of(provisioning_model=ProvisioningModel.SPOT)
    arguments = launch_arguments(request, settings, user_data=b"#!", image=image, interface={"SubnetId": "subnet-1"})
    ebs = arguments["BlockDeviceMappings"][0]["Ebs"]
    assert (ebs["VolumeSize"], ebs["Iops"], ebs["Throughput"], ebs["Encrypted"]) == (30, 4_000, 200, True)
    assert arguments["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert arguments["MetadataOptions"]["HttpTokens"] == "required"
    assert arguments["IamInstanceProfile"] == {"Arn": "arn:aws:iam::1:instance-profile/workers"}
    assert arguments["InstanceMarketOptions"]["SpotOptions"]["InstanceInterruptionBehavior"] == "terminate"
    assert {each["ResourceType"] for each in arguments["TagSpecifications"]} == {
        "instance",
        "volume",
        "network-interface",
    }
    for each in arguments["TagSpecifications"]:
        assert {"Key": "CostCenter", "Value": "42"} in each["Tags"]
    assert arguments["ClientToken"] == request.client_token


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("t3.medium", {"CpuCredits": "unlimited"}),
        ("t4g.nano", {"CpuCredits": "unlimited"}),
        ("t2.large", {"CpuCredits": "standard"}),
        ("m5.large", None),
    ],
)
def test_launch_arguments_have_the_credit_mode_of_the_price(name: str, expected: dict[str, str] | None) -> None:
    arguments = arguments_of(request_for("job", offer(name)))
    assert arguments.get("CreditSpecification") == expected


def test_launch_arguments_limit_the_price_of_a_spot_instance(request_of: RequestOf) -> None:
    spot = request_of(provisioning_model=ProvisioningModel.SPOT)
    assert "MaxPrice" not in arguments_of(spot)["InstanceMarketOptions"]["SpotOptions"]
    limited = attrs.evolve(spot, max_price_per_hour=Money("0.03912345"))
    assert arguments_of(limited)["InstanceMarketOptions"]["SpotOptions"]["MaxPrice"] == "0.0392"
    assert "InstanceMarketOptions" not in arguments_of(attrs.evolve(request_of(), max_price_per_hour=Money("0.1")))


def arguments_of(request: LaunchRequest) -> dict[str, Any]:
    image = BootImage(image_id="ami-1", root_device="/dev/sda1", size_gb=8)
    return launch_arguments(request, AwsSettings(), user_data=b"#!", image=image, interface={"SubnetId": "subnet-1"})


def test_client_token_with_other_arguments_returns_the_same_instance(compute: Compute, request_of: RequestOf) -> None:
    request = request_of()
    first = compute.launch(request)
    again = compute.launch(attrs.evolve(request, image="ami-04681a1dbd79675a5"))
    assert again.instance_id == first.instance_id


def test_concurrent_launches_create_one_security_group(
    aws_settings: AwsSettings, ec2: Any, request_of: RequestOf, job: str
) -> None:
    def launch(request: LaunchRequest) -> Instance:
        with open_compute(aws_settings, ComputeContext(job_id=job, region="us-east-1")) as own:
            return own.launch(request)

    with ThreadPoolExecutor(4) as threads:
        launched = list(threads.map(launch, [request_of() for _ in range(4)]))
    assert len({each.instance_id for each in launched}) == 4
    named = [{"Name": "group-name", "Values": [GROUP_NAME]}]
    assert len(ec2.describe_security_groups(Filters=named)["SecurityGroups"]) == 1
    with open_compute(aws_settings, ComputeContext(job_id=job, region="us-east-1")) as compute:
        compute.terminate([each.instance_id for each in launched])


def test_launch_uses_configured_subnet_group_and_key(
    aws_settings: AwsSettings, ec2: Any, request_of: RequestOf, job: str
) -> None:
    subnet = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1d"]}])["Subnets"][0]
    group = ec2.create_security_group(GroupName=f"own-{job}", Description="own", VpcId=subnet["VpcId"])["GroupId"]
    ec2.create_key_pair(KeyName=f"key-{job}")
    own = attrs.evolve(
        aws_settings,
        subnets=(subnet["SubnetId"],),
        security_groups=(f"own-{job}",),
        key_name=f"key-{job}",
        public_address=False,
    )
    with open_compute(own, ComputeContext(job_id=job, region="us-east-1")) as compute:
        assert {zone for each in compute.instance_types() for zone in each.zones} == {"us-east-1d"}
        launched = compute.launch(request_of(zone="us-east-1d"))
        found = described(ec2, launched)
        with pytest.raises(LaunchRefusedError, match="no usable subnet in us-east-1a") as refused:
            compute.launch(request_of(zone="us-east-1a"))
        compute.terminate([launched.instance_id])
    assert refused.value.scope is RefusalScope.ZONE
    assert (found["SubnetId"], found["KeyName"]) == (subnet["SubnetId"], f"key-{job}")
    assert [each["GroupId"] for each in found["NetworkInterfaces"][0]["Groups"]] == [group]


def test_unknown_security_group_fails_the_launch(aws_settings: AwsSettings, request_of: RequestOf, job: str) -> None:
    own = attrs.evolve(aws_settings, security_groups=("nowhere",))
    with (
        open_compute(own, ComputeContext(job_id=job, region="us-east-1")) as compute,
        pytest.raises(LaunchFailedError, match="security_groups: nowhere not found"),
    ):
        compute.launch(request_of())


def test_region_without_default_vpc_fails_the_launch(aws_settings: AwsSettings) -> None:
    class NoVpc:
        def get_paginator(self, name: str) -> None:
            """Return no paginator: none is used."""

        def describe_vpcs(self, **arguments: Any) -> Any:
            return {"Vpcs": []}

    with pytest.raises(LaunchFailedError, match=r"no default VPC.*aws\.subnets"):
        Network(NoVpc(), aws_settings).interface("us-east-1a")


def test_launch_retries_transient_errors_with_the_same_token(
    overlay: OverlayProcess, compute: Compute, request_of: RequestOf, job: str
) -> None:
    compute.launch(request_of())

    def injected() -> int:
        return sum(overlay.state()["injected"].values())

    before = injected()
    overlay.control("faults", error=0.1, reset=0.05, cut=0.15)
    launched: list[Instance] = []
    while injected() - before < 4 and len(launched) < 200:
        launched.append(compute.launch(request_of()))
    overlay.control("faults")
    assert injected() - before >= 4
    assert len({each.instance_id for each in launched}) == len(launched)
    assert len(compute.instances(job)) == 1 + len(launched)
