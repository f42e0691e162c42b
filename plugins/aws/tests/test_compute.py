"""What EC2 is asked for and what its answers mean, over the overlay; beside the contract that every compute keeps."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import boto3
import pytest
from ec2_process import OverlayProcess

from cloud_tasks.errors import InputError, LaunchRefused, ProviderError, RefusalScope
from cloud_tasks.model import (
    Architecture,
    BootDisk,
    Instance,
    InstanceState,
    InstanceType,
    LaunchRequest,
    Money,
    Offer,
    PriceBreakdown,
    Purchase,
)
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks.testing import eventually
from cloud_tasks_aws.compute.ec2 import Ec2Compute
from cloud_tasks_aws.compute.images import BootImage
from cloud_tasks_aws.compute.large_scripts import LargeScripts
from cloud_tasks_aws.compute.launching import launch_arguments
from cloud_tasks_aws.compute.network import GROUP_NAME
from cloud_tasks_aws.compute.opening import open_compute
from cloud_tasks_aws.session import client
from cloud_tasks_aws.settings import AwsSettings

SCRIPT = "#!/bin/bash\nwhile true; do sleep 1; done\n"


@pytest.fixture
def job() -> str:
    return f"job-{uuid4().hex[:8]}"


@pytest.fixture
def compute(aws_settings: AwsSettings, job: str) -> Iterator[Compute]:
    with open_compute(aws_settings, ComputeContext(job_id=job, region="us-east-1")) as compute:
        yield compute
        compute.terminate([each.instance_id for each in compute.instances(job)])


@pytest.fixture(scope="module")
def ec2(overlay_server: OverlayProcess) -> Iterator[Any]:
    """A look at what the plugin did."""
    keys: dict[str, Any] = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}
    client = boto3.client("ec2", endpoint_url=overlay_server.url, region_name="us-east-1", **keys)
    yield client
    client.close()


@pytest.fixture
def impatient(aws_settings: AwsSettings, job: str) -> Iterator[Compute]:
    """Its calls reach nobody, and are not repeated."""
    nowhere = attrs.evolve(aws_settings, endpoint_url="http://127.0.0.1:9", secret_key="do-not-tell")

    def make(service: str, region: str | None = None, *, once: bool = False) -> Any:
        return client(nowhere, service, region or "us-east-1", attempts=1)

    compute = Ec2Compute(nowhere, ComputeContext(job_id=job), client=make, identity="nobody")
    yield compute
    compute.close()


@pytest.fixture
def request_of(job: str) -> Callable[..., LaunchRequest]:
    def make(
        name: str = "t3.medium", zone: str = "us-east-1a", purchase: Purchase = Purchase.ON_DEMAND, **changes: Any
    ) -> LaunchRequest:
        arm = name.startswith(("t4g", "c7g"))
        kind = InstanceType(
            name=name,
            vcpus=2,
            memory_gb=4.0,
            architecture=Architecture.ARM64 if arm else Architecture.X86_64,
            zones=(zone,),
        )
        request = LaunchRequest(
            client_token=uuid4().hex,
            job_id=job,
            offer=Offer(
                instance_type=kind,
                zone=zone,
                purchase=purchase,
                boot_disk=BootDisk(disk_type="gp3", size_gb=20, iops=4_000, throughput_mb_s=200),
                price=PriceBreakdown(cpu=Money("0.04")),
                priced_at=datetime.now(UTC),
            ),
            startup_script=SCRIPT,
            labels={"run": "r1", "owner": "tester", "expires": "2000000000"},
        )
        return attrs.evolve(request, **changes)

    return make


RequestOf = Callable[..., LaunchRequest]


def described(ec2: Any, instance: Instance) -> Any:
    return ec2.describe_instances(InstanceIds=[instance.instance_id])["Reservations"][0]["Instances"][0]


# Launching


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


def test_the_default_image_follows_the_architecture(compute: Compute, ec2: Any, request_of: RequestOf) -> None:
    for name, architecture in (("t3.medium", "x86_64"), ("t4g.medium", "arm64")):
        image = described(ec2, compute.launch(request_of(name)))["ImageId"]
        assert ec2.describe_images(ImageIds=[image])["Images"][0]["Architecture"] == architecture


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("ami-04681a1dbd79675a5", "amzn2-ami-hvm-2.0.20180810-x86_64-gp2"),
        ("amzn2-ami-hvm-2.0.20180810-x86_64-gp2", "amzn2-ami-hvm-2.0.20180810-x86_64-gp2"),
        ("137112412989:amzn2-ami-hvm-2.0.20180810-*", "amzn2-ami-hvm-2.0.20180810-x86_64-gp2"),
        ("/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64", "al2023-ami-"),
    ],
)
def test_an_image_is_named_by_id_by_name_with_or_without_owner_or_by_parameter(
    compute: Compute, ec2: Any, request_of: RequestOf, image: str, name: str
) -> None:
    chosen = described(ec2, compute.launch(request_of(image=image)))["ImageId"]
    assert ec2.describe_images(ImageIds=[chosen])["Images"][0]["Name"].startswith(name)


@pytest.mark.parametrize("image", ["ami-00000000000000000", "no-such-image-*", "ami-0e9271c829888680e"])
def test_an_image_that_will_not_do_is_bad_input(compute: Compute, request_of: RequestOf, image: str) -> None:
    with pytest.raises(InputError, match=r"run\.image"):
        compute.launch(request_of(image=image))


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
        with pytest.raises(LaunchRefused, match="no subnet to use in us-east-1a") as refused:
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
        pytest.raises(ProviderError, match="no security group nowhere"),
    ):
        compute.launch(request_of())


def test_an_instance_profile_that_does_not_exist_is_a_refusal_of_every_launch(
    aws_settings: AwsSettings, request_of: RequestOf, job: str
) -> None:
    own = attrs.evolve(aws_settings, instance_profile="nobody")
    context = ComputeContext(job_id=job, region="us-east-1")
    with open_compute(own, context) as compute, pytest.raises(LaunchRefused, match="instance_profile") as refused:
        compute.launch(request_of())
    assert refused.value.scope is RefusalScope.ACCOUNT


@pytest.mark.parametrize(
    ("code", "scope"),
    [
        ("SomethingNew", RefusalScope.ACCOUNT),
        ("InsufficientInstanceCapacity", RefusalScope.OFFER),
        ("Unsupported", RefusalScope.OFFER),
        ("SpotMaxPriceTooLow", RefusalScope.OFFER),
        ("MaxSpotInstanceCountExceeded", RefusalScope.REGION),
        ("InstanceLimitExceeded", RefusalScope.REGION),
        ("UnauthorizedOperation", RefusalScope.ACCOUNT),
        ("PendingVerification", RefusalScope.ACCOUNT),
        ("InvalidSubnetID.NotFound", RefusalScope.ACCOUNT),
        ("InvalidAMIID.Unavailable", RefusalScope.INSTANCE_TYPE),
    ],
)
def test_a_refusal_says_what_to_avoid(
    overlay: OverlayProcess, compute: Compute, request_of: RequestOf, code: str, scope: RefusalScope
) -> None:
    overlay.tell("stock-out", code=code)
    calls = overlay.state()["calls"]
    with pytest.raises(LaunchRefused) as refused:
        compute.launch(request_of())
    assert (refused.value.scope, refused.value.reason) == (scope, code)
    assert refused.value.retry_after > timedelta(0)
    assert "t3.medium (on-demand) in us-east-1a" in refused.value.message
    assert overlay.state()["calls"] - calls <= 8, "a refusal is not asked for again"


def test_an_error_that_may_pass_is_tried_again_with_the_same_token(
    overlay: OverlayProcess, compute: Compute, request_of: RequestOf, job: str
) -> None:
    compute.launch(request_of())
    overlay.tell("faults", error=0.1, reset=0.1, cut=0.3)
    launched = [compute.launch(request_of()) for _ in range(4)]
    overlay.tell("faults")
    assert sum(overlay.state()["struck"].values()) > 0
    assert len({each.instance_id for each in launched}) == 4
    assert len(compute.instances(job)) == 5


def test_a_script_can_be_longer_than_user_data(compute: Compute, request_of: RequestOf) -> None:
    script = "#!/bin/bash\n" + "# said again and again\n" * 5_000 + "echo arrived\n" + "sleep 600\n"
    launched = compute.launch(request_of(startup_script=script))
    eventually(lambda: "arrived" in compute.console_log(launched.instance_id))


def test_a_script_that_is_longer_still_goes_by_way_of_s3_where_a_place_is_set(
    overlay: OverlayProcess, aws_settings: AwsSettings, request_of: RequestOf, job: str
) -> None:
    keys: dict[str, Any] = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}
    s3 = boto3.client("s3", endpoint_url=overlay.url, region_name="us-east-1", **keys)
    s3.create_bucket(Bucket=job)
    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=60_000))
    script = f"#!/bin/bash\n# {noise}\necho arrived with ${{#BASH_SOURCE}} letters\nsleep 600\n"
    context = ComputeContext(job_id=job, region="us-east-1")
    with open_compute(aws_settings, context) as compute, pytest.raises(InputError, match="script_location"):
        compute.launch(request_of(startup_script=script))
    own = attrs.evolve(aws_settings, script_location=f"s3://{job}/scripts")
    with open_compute(own, context) as compute:
        launched = [compute.launch(request_of(startup_script=script)).instance_id for _ in range(2)]
        for each in launched:
            eventually(lambda each=each: "arrived" in compute.console_log(each))  # type: ignore[misc]
        assert len(s3.list_objects_v2(Bucket=job)["Contents"]) == 1
        compute.terminate(launched)
    assert "Contents" not in s3.list_objects_v2(Bucket=job)
    s3.close()


def test_an_instance_that_cannot_fetch_its_script_switches_itself_off(tmp_path: Path) -> None:
    class Nowhere:
        def put_object(self, **arguments: Any) -> None:
            """Nothing is kept."""

        def generate_presigned_url(self, *arguments: Any, **named: Any) -> str:
            return "http://127.0.0.1:9/nothing"

    starter = LargeScripts(Nowhere, "s3://bucket").starter("#!/bin/bash\necho hello\n").decode()
    (tmp_path / "shutdown").write_text('#!/bin/sh\necho "off: $@"\n')
    (tmp_path / "shutdown").chmod(0o755)
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
    ended = subprocess.run(["bash", "-c", starter], env=variables, capture_output=True, text=True, check=True)
    assert ended.stdout == "off: -h now\n"


# Ends


def test_power_off_ends_the_bill(compute: Compute, request_of: RequestOf, job: str) -> None:
    launched = compute.launch(request_of(startup_script="#!/bin/bash\nshutdown -h now\nsleep 600\n"))

    def ended() -> bool:
        states = {i.instance_id: i.state for i in compute.instances(job, include_terminated=True)}
        return states[launched.instance_id] is InstanceState.TERMINATED

    eventually(ended)


def test_ids_that_do_not_exist_keep_none_of_the_others_alive(compute: Compute, request_of: RequestOf, job: str) -> None:
    ids = [compute.launch(request_of()).instance_id for _ in range(3)]
    compute.terminate([ids[0], "i-0000000000000dead", ids[1], "not-an-id", "i-0000000000000beef", ids[2]])
    eventually(lambda: not any(each.is_alive for each in compute.instances(job)))


def test_a_termination_that_failed_is_told(impatient: Compute) -> None:
    with pytest.raises(ProviderError) as failed:
        impatient.terminate(["i-0123456789abcdef0"])
    assert failed.value.transient


def test_the_console_of_an_unknown_instance_is_empty(compute: Compute) -> None:
    assert compute.console_log("i-0000000000000dead") == ""
    assert compute.console_log("no-id") == ""


# What there is


def test_a_second_look_at_the_types_asks_nobody(
    overlay: OverlayProcess, aws_settings: AwsSettings, tmp_path: Path
) -> None:
    context = ComputeContext(job_id="", region="us-east-1", cache_dir=tmp_path / "cache")
    with open_compute(aws_settings, context) as compute:
        first = compute.instance_types()
    calls = overlay.state()["calls"]
    with open_compute(aws_settings, context) as compute:
        assert compute.instance_types() == first
    assert overlay.state()["calls"] == calls
    other = attrs.evolve(aws_settings, access_key="AKIDOTHER")
    with open_compute(other, context) as compute:
        assert compute.instance_types() == first
    assert overlay.state()["calls"] > calls, "another account's answer was taken for this one's"


def test_a_cache_that_is_old_or_broken_counts_as_none(
    overlay: OverlayProcess, aws_settings: AwsSettings, tmp_path: Path
) -> None:
    context = ComputeContext(job_id="", region="us-east-1", cache_dir=tmp_path)

    def look() -> int:
        before = overlay.state()["calls"]
        with open_compute(aws_settings, context) as compute:
            assert len(compute.instance_types()) > 50
        return int(overlay.state()["calls"] - before)

    assert look() > 0
    (file,) = tmp_path.iterdir()
    for content in ("{", "[]", '{"types": 7, "zones": {}}'):
        file.write_text(content)
        assert look() > 0
    assert look() == 0
    os.utime(file, (0, 0))
    assert look() > 0


def test_a_type_is_offered_where_the_region_has_it(compute: Compute) -> None:
    found = {each.name: each for each in compute.instance_types()}
    assert set(found["t3.medium"].zones) <= {f"us-east-1{letter}" for letter in "abcdef"}
    assert found["t3.medium"].zones == tuple(sorted(found["t3.medium"].zones))
    assert found["c7g.large"].architecture is Architecture.ARM64
    assert found["g4dn.xlarge"].gpu_type == "T4"


def test_headroom_is_what_the_quota_leaves(overlay: OverlayProcess, compute: Compute, request_of: RequestOf) -> None:
    offer = request_of().offer
    assert compute.headroom(request_of("p4d.24xlarge").offer) is None, "no quota is known for it"
    compute.launch(request_of())
    overlay.tell("quota", code="L-1216C47A", value=1000)
    before = compute.headroom(offer)
    compute.launch(request_of("m5.xlarge"))
    after = compute.headroom(offer)
    assert before is not None
    assert after is not None
    assert before.instances - after.instances == 2
    assert "1000 vCPUs" in after.limited_by


def test_a_job_whose_name_looks_like_a_pattern_sees_its_own_instances_only(
    aws_settings: AwsSettings, compute: Compute, request_of: RequestOf, job: str
) -> None:
    compute.launch(request_of())
    assert list(compute.instances(job[:-1] + "*")) == []


def test_what_was_listed_before_a_failed_page_is_no_listing(
    overlay: OverlayProcess, aws_settings: AwsSettings, compute: Compute, request_of: RequestOf, job: str
) -> None:
    for _ in range(3):
        compute.launch(request_of())
    overlay.tell("break-page", token_only=True)
    try:
        with pytest.raises(ProviderError):
            compute.instances(job)
    finally:
        overlay.tell("break-page", token_only=False)
    assert len(compute.instances(job)) == 3


def test_no_credential_is_in_an_error(aws_settings: AwsSettings, impatient: Compute, job: str) -> None:
    with pytest.raises(ProviderError) as failed:
        impatient.instances(job)
    assert "do-not-tell" not in json.dumps([str(failed.value), repr(aws_settings), repr(impatient)])
