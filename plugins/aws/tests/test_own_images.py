"""`find_own_image` and `make_image`: what an image consists of, its name, and what a failed attempt leaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import attrs
import pytest
from ec2_launches import RequestOf, described
from ec2_process import OverlayProcess
from structlog.testing import capture_logs

from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.model import Architecture, Instance
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks.testing import eventually
from cloud_tasks_aws.compute import own_images
from cloud_tasks_aws.compute.backend import Ec2Compute, open_compute
from cloud_tasks_aws.compute.tags import JOB_TAG
from cloud_tasks_aws.settings import AwsSettings

TAGS = {"CostCenter": "42"}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_images, "_FIRST_PAUSE", 0.02)
    monkeypatch.setattr(own_images, "_LONGEST_PAUSE", 0.05)


@pytest.fixture
def maker(aws_settings: AwsSettings, context: ComputeContext) -> Iterator[Ec2Compute]:
    with open_compute(attrs.evolve(aws_settings, tags=TAGS), context) as compute:
        assert isinstance(compute, Ec2Compute)
        yield compute
        compute.terminate([each.instance_id for each in compute.instances(context.job_id)])


@pytest.fixture
def name(overlay: OverlayProcess, ec2: Any) -> Iterator[str]:
    """A name without an image, before and after the test."""
    name = f"cloud-tasks-{uuid4().hex[:16]}"
    yield name
    overlay.control("in-stock")
    for each in named(ec2, name):
        ec2.deregister_image(ImageId=each["ImageId"])


def launched(compute: Compute, request_of: RequestOf) -> Instance:
    instance = compute.launch(request_of())
    eventually(lambda: [each.state.value for each in compute.instances(instance.job_id)] == ["running"])
    return instance


def create(ec2: Any, instance: Instance, name: str, *, job: str) -> str:
    """Make an image as another process does."""
    tags = [{"Key": JOB_TAG, "Value": job}]
    marks = [{"ResourceType": kind, "Tags": tags} for kind in ("image", "snapshot")]
    made = ec2.create_image(InstanceId=instance.instance_id, Name=name, NoReboot=True, TagSpecifications=marks)
    return str(made["ImageId"])


def image(ec2: Any, image_id: str) -> Any:
    return ec2.describe_images(ImageIds=[image_id])["Images"][0]


def named(ec2: Any, name: str) -> list[Any]:
    found: list[Any] = ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": [name]}])["Images"]
    return found


def snapshots(ec2: Any, job: str) -> list[Any]:
    conditions = [{"Name": f"tag:{JOB_TAG}", "Values": [job]}]
    found: list[Any] = ec2.describe_snapshots(OwnerIds=["self"], Filters=conditions)["Snapshots"]
    return found


def test_image_is_that_of_the_root_volume_of_the_stopped_instance(
    overlay: OverlayProcess, maker: Ec2Compute, ec2: Any, request_of: RequestOf, job: str, name: str
) -> None:
    instance = launched(maker, request_of)
    other = ec2.create_volume(Size=5, AvailabilityZone=instance.zone)["VolumeId"]
    ec2.attach_volume(VolumeId=other, InstanceId=instance.instance_id, Device="/dev/sdz")
    overlay.control("images", hidden=2)
    made = maker.make_image(instance.instance_id, name)
    assert described(ec2, instance)["State"]["Name"] == "stopped"
    found = image(ec2, made)
    assert (found["Name"], found["State"]) == (name, "available")
    (disk,) = found["BlockDeviceMappings"]
    (snapshot,) = snapshots(ec2, job)
    assert disk == {
        "DeviceName": found["RootDeviceName"],
        "Ebs": {"DeleteOnTermination": True, "SnapshotId": snapshot["SnapshotId"], "VolumeSize": 20},
    }
    for each in (found, snapshot):
        assert {pair["Key"]: pair["Value"] for pair in each["Tags"]} == {**TAGS, JOB_TAG: job}


def test_image_is_launched_by_its_value_on_instances_of_its_architecture_only(
    maker: Ec2Compute, ec2: Any, request_of: RequestOf, name: str
) -> None:
    made = maker.make_image(launched(maker, request_of).instance_id, name)
    found = maker.find_image(made, Architecture.X86_64)
    assert found is not None
    assert (found.uri, found.min_disk_gb) == (made, 20)
    with pytest.raises(InputError, match="is for x86_64"):
        maker.find_image(made, Architecture.ARM64)
    assert described(ec2, maker.launch(request_of(image=made)))["ImageId"] == made


def test_image_is_found_when_it_is_complete_and_has_the_tag(
    overlay: OverlayProcess, maker: Ec2Compute, ec2: Any, request_of: RequestOf, job: str, name: str
) -> None:
    overlay.control("images", pending=2)
    instance = launched(maker, request_of)
    image_id = ec2.create_image(InstanceId=instance.instance_id, Name=name, NoReboot=True)["ImageId"]
    eventually(lambda: image(ec2, image_id)["State"] == "available")
    assert maker.find_own_image(name) is None
    with pytest.raises(ProviderError, match=f"without the tag {JOB_TAG}"):
        maker.make_image(instance.instance_id, name)
    assert image(ec2, image_id)["State"] == "available"
    ec2.create_tags(Resources=[image_id], Tags=[{"Key": JOB_TAG, "Value": job}])
    assert maker.find_own_image(name) == image_id
    assert maker.find_own_image(name[:-1]) is None


@pytest.mark.parametrize("listed", [True, False])
def test_image_that_is_there_is_awaited_instead_of_made(
    overlay: OverlayProcess,
    maker: Ec2Compute,
    ec2: Any,
    request_of: RequestOf,
    name: str,
    listed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is pending; without ``listed``, another process makes it after this one has looked."""
    overlay.control("images", pending=6)
    instance = launched(maker, request_of)
    made = create(ec2, instance, name, job="another")
    if not listed:
        listing, looks = own_images.OwnImages._named, iter(range(100))
        monkeypatch.setattr(
            own_images.OwnImages, "_named", lambda self, name: [] if next(looks) < 3 else listing(self, name)
        )
    assert maker.make_image(instance.instance_id, name) == made
    assert image(ec2, made)["State"] == "available"
    assert [each["ImageId"] for each in named(ec2, name)] == [made]


def test_image_that_failed_is_deleted_with_its_snapshots_and_made_anew(
    overlay: OverlayProcess, maker: Ec2Compute, ec2: Any, request_of: RequestOf, job: str, name: str
) -> None:
    overlay.control("images", failure="Client.InternalError: the\nvolume is gone")
    instance = launched(maker, request_of)
    with pytest.raises(ProviderError, match=f"image {name} failed: Client.InternalError: the volume is gone"):
        maker.make_image(instance.instance_id, name)
    assert (named(ec2, name), snapshots(ec2, job)) == ([], [])
    create(ec2, instance, name, job="another")
    eventually(lambda: named(ec2, name)[0]["State"] == "failed")
    overlay.control("images")
    assert maker.make_image(instance.instance_id, name) == named(ec2, name)[0]["ImageId"]
    assert snapshots(ec2, "another") == []


def test_image_that_takes_too_long_or_is_interrupted_is_deleted(
    overlay: OverlayProcess,
    maker: Ec2Compute,
    ec2: Any,
    request_of: RequestOf,
    job: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overlay.control("images", pending=1000)
    instance = launched(maker, request_of)
    monkeypatch.setattr(own_images, "_LIMIT", 0.0)
    with pytest.raises(ProviderError, match=f"{name} is not complete after 0 min"):
        maker.make_image(instance.instance_id, name)
    assert (named(ec2, name), snapshots(ec2, job)) == ([], [])

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(own_images.OwnImages, "_is_complete", interrupted)
    with pytest.raises(KeyboardInterrupt):
        maker.make_image(instance.instance_id, name)
    assert (named(ec2, name), snapshots(ec2, job)) == ([], [])
    # One that another process makes is left to it.
    create(ec2, instance, name, job="another")
    with pytest.raises(KeyboardInterrupt):
        maker.make_image(instance.instance_id, name)
    assert len(named(ec2, name)) == 1


def test_image_whose_deletion_fails_is_named_in_the_log(
    overlay: OverlayProcess,
    maker: Ec2Compute,
    request_of: RequestOf,
    name: str,
) -> None:
    overlay.control("images", failure="no space")
    overlay.control("refuse", action="DeregisterImage", code="UnauthorizedOperation")
    with pytest.raises(ProviderError, match="no space"), capture_logs() as logs:
        maker.make_image(launched(maker, request_of).instance_id, name)
    assert any(f"{name} may be left" in each["event"] for each in logs)


def test_image_of_an_instance_that_ended_is_not_made(
    maker: Ec2Compute, ec2: Any, request_of: RequestOf, name: str
) -> None:
    instance = launched(maker, request_of)
    maker.terminate([instance.instance_id])
    with pytest.raises(ProviderError, match=f"{instance.instance_id} ended before"):
        maker.make_image(instance.instance_id, name)
    assert named(ec2, name) == []
