"""What a launch asks EC2 for, and what it makes of that."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest
from ec2_launches import RequestOf, described
from ec2_process import OverlayProcess

from cloud_tasks.errors import LaunchFailedError, LaunchRefusedError, RefusalScope
from cloud_tasks.model import Instance, LaunchRequest, Purchase
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks_aws.compute.images import BootImage
from cloud_tasks_aws.compute.launching import launch_arguments
from cloud_tasks_aws.compute.network import GROUP_NAME, Network
from cloud_tasks_aws.compute.opening import open_compute
from cloud_tasks_aws.settings import AwsSettings


def test_an_instance_is_marked_connected_and_closed_to_the_outside(
    compute: Compute, ec2: Any, request_of: RequestOf, job: str
) -> None:
    found = described(ec2, compute.launch(request_of()))
    marks = {tag["Key"]: tag["Value"] for tag in found["Tags"]}
    assert marks["cloud-tasks-job"] == job
    assert marks["cloud-tasks-expires"] == "2000000000"
    (group,) = found["SecurityGroups"]
    assert group["GroupName"] == GROUP_NAME
    rules = ec2.describe_security_groups(GroupIds=[group["GroupId"]])["SecurityGroups"][0]["IpPermissions"]
    assert rules == []
    assert found["MetadataOptions"]["HttpTokens"] == "required"


def test_its_volume_is_as_asked_for_marked_and_ends_with_it(
    compute: Compute, ec2: Any, request_of: RequestOf, job: str
) -> None:
    found = described(ec2, compute.launch(request_of()))
    (mapping,) = found["BlockDeviceMappings"]
    assert mapping["DeviceName"] == found["RootDeviceName"]
    assert mapping["Ebs"]["DeleteOnTermination"] is True
    (volume,) = ec2.describe_volumes(VolumeIds=[mapping["Ebs"]["VolumeId"]])["Volumes"]
    assert (volume["Size"], volume["VolumeType"]) == (20, "gp3")
    assert {"Key": "cloud-tasks-job", "Value": job} in volume["Tags"]


def test_what_a_stand_in_ignores_is_asked_for_all_the_same(request_of: RequestOf) -> None:
    image = BootImage(image_id="ami-1", root_device="/dev/sda1", size_gb=30)
    settings = AwsSettings(instance_profile="arn:aws:iam::1:instance-profile/workers", encrypt_boot_disk=True)
    request = request_of(purchase=Purchase.SPOT)
    asked = launch_arguments(request, settings, user_data=b"#!", image=image, interface={"SubnetId": "subnet-1"})
    ebs = asked["BlockDeviceMappings"][0]["Ebs"]
    assert (ebs["VolumeSize"], ebs["Iops"], ebs["Throughput"], ebs["Encrypted"]) == (30, 4_000, 200, True)
    assert asked["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert asked["MetadataOptions"]["HttpTokens"] == "required"
    assert asked["IamInstanceProfile"] == {"Arn": "arn:aws:iam::1:instance-profile/workers"}
    assert asked["InstanceMarketOptions"]["SpotOptions"]["InstanceInterruptionBehavior"] == "terminate"
    assert {each["ResourceType"] for each in asked["TagSpecifications"]} == {"instance", "volume", "network-interface"}
    assert asked["ClientToken"] == request.client_token


def test_a_token_whose_arguments_changed_still_means_the_same_instance(compute: Compute, request_of: RequestOf) -> None:
    request = request_of()
    first = compute.launch(request)
    again = compute.launch(attrs.evolve(request, image="ami-04681a1dbd79675a5"))
    assert again.instance_id == first.instance_id


def test_one_group_is_made_however_many_launches_ask_for_it_at_once(
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


def test_subnets_groups_key_and_profile_are_the_users_where_they_are_set(
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
        with pytest.raises(LaunchRefusedError, match="no subnet to use in us-east-1a") as refused:
            compute.launch(request_of(zone="us-east-1a"))
        compute.terminate([launched.instance_id])
    assert refused.value.scope is RefusalScope.ZONE
    assert (found["SubnetId"], found["KeyName"]) == (subnet["SubnetId"], f"key-{job}")
    assert [each["GroupId"] for each in found["NetworkInterfaces"][0]["Groups"]] == [group]


def test_an_unknown_security_group_is_an_error_that_names_it(
    aws_settings: AwsSettings, request_of: RequestOf, job: str
) -> None:
    own = attrs.evolve(aws_settings, security_groups=("nowhere",))
    with (
        open_compute(own, ComputeContext(job_id=job, region="us-east-1")) as compute,
        pytest.raises(LaunchFailedError, match="no security group nowhere"),
    ):
        compute.launch(request_of())


def test_a_region_without_a_default_vpc_is_a_launch_that_failed_for_certain(aws_settings: AwsSettings) -> None:
    class NoVpc:
        def get_paginator(self, name: str) -> None:
            """Nothing is asked of it."""

        def describe_vpcs(self, **arguments: Any) -> Any:
            return {"Vpcs": []}

    with pytest.raises(LaunchFailedError, match=r"no default VPC.*aws\.subnets"):
        Network(NoVpc(), aws_settings).interface("us-east-1a")


def test_an_error_that_may_pass_is_tried_again_with_the_same_token(
    overlay: OverlayProcess, compute: Compute, request_of: RequestOf, job: str
) -> None:
    compute.launch(request_of())

    def struck() -> int:
        return sum(overlay.state()["struck"].values())

    before = struck()
    overlay.tell("faults", error=0.1, reset=0.05, cut=0.15)
    launched: list[Instance] = []
    while struck() - before < 4 and len(launched) < 40:
        launched.append(compute.launch(request_of()))
    overlay.tell("faults")
    assert struck() - before >= 4
    assert len({each.instance_id for each in launched}) == len(launched)
    assert len(compute.instances(job)) == 1 + len(launched)
