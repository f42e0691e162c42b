"""Resolution and listing of boot images."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ec2_launches import RequestOf, described
from ec2_process import OverlayProcess

from cloud_tasks.errors import InputError, LaunchRefusedError, RefusalScope
from cloud_tasks.model import Architecture
from cloud_tasks.plugin import Compute
from cloud_tasks.testing import eventually
from cloud_tasks_aws.compute.image_resolver import AwsImages


def test_default_image_matches_the_architecture(compute: Compute, ec2: Any, request_of: RequestOf) -> None:
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
def test_image_resolver_accepts_id_name_owner_and_parameter(
    compute: Compute, ec2: Any, request_of: RequestOf, image: str, name: str
) -> None:
    chosen = described(ec2, compute.launch(request_of(image=image)))["ImageId"]
    assert ec2.describe_images(ImageIds=[chosen])["Images"][0]["Name"].startswith(name)


def test_image_resolver_finds_a_deprecated_image_by_its_id(
    overlay: OverlayProcess, compute: Compute, request_of: RequestOf
) -> None:
    overlay.control("deprecate", image_id="ami-04681a1dbd79675a5")
    assert compute.launch(request_of(image="ami-04681a1dbd79675a5")).instance_id


@pytest.mark.parametrize(
    "image",
    ["ami-00000000000000000", "ami-mine", "no-such-image-*", "al2023-ami-*-arm64"],
    ids=["id", "malformed", "name", "architecture"],
)
def test_image_resolver_reports_missing_image_with_its_setting(
    compute: Compute, request_of: RequestOf, image: str
) -> None:
    with pytest.raises(InputError, match=r"run\.image") as failed:
        compute.launch(request_of(image=image))
    assert failed.value.hint


def test_image_of_another_architecture_refuses_the_instance_type(compute: Compute, request_of: RequestOf) -> None:
    image = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
    with pytest.raises(LaunchRefusedError, match=r"run\.image") as refused:
        compute.launch(request_of(image=image))
    assert refused.value.scope is RefusalScope.INSTANCE_TYPE
    assert refused.value.hint


def test_images_marks_the_accounts_own_images(compute: Compute, ec2: Any, request_of: RequestOf) -> None:
    before = compute.images()
    assert before
    assert not any(each.owner == "self" for each in before)
    instance = compute.launch(request_of())
    eventually(lambda: described(ec2, instance)["State"]["Name"] == "running")
    created = ec2.create_image(InstanceId=instance.instance_id, Name=f"own-{instance.job_id}", NoReboot=True)
    found = eventually(
        lambda: {each.uri: each.owner for each in compute.images()}, lambda found: created["ImageId"] in found
    )
    assert found[created["ImageId"]] == "self"
    assert "self" not in {owner for uri, owner in found.items() if uri != created["ImageId"]}
    assert compute.launch(request_of(image=created["ImageId"])).instance_id


class NoImages:
    """EC2 of a partition, without images."""

    def __init__(self, partition: str) -> None:
        self.meta = SimpleNamespace(partition=partition)
        self.listings: list[Any] = []

    def get_paginator(self, operation: str) -> NoImages:
        return self

    def paginate(self, **arguments: Any) -> list[Any]:
        self.listings.append(arguments)
        return [{"Images": []}]


@pytest.mark.parametrize(
    ("partition", "canonical"),
    [("aws", ["099720109477"]), ("aws-cn", ["837727238323"]), ("aws-us-gov", ["513442679011"]), ("aws-iso", [])],
)
def test_images_are_those_of_canonical_in_the_partition(partition: str, canonical: list[str]) -> None:
    ec2 = NoImages(partition)
    images = AwsImages(ec2, None)
    with pytest.raises(InputError):
        images.resolve("ubuntu-*", Architecture.X86_64)
    assert ec2.listings[0]["Owners"] == ["self", "amazon", *canonical]
    ec2.listings.clear()
    assert images.list() == ()
    assert sorted(owner for each in ec2.listings for owner in each["Owners"]) == sorted(["self", "amazon", *canonical])


def test_images_are_listed_in_pages() -> None:
    # A listing of all images at once is refused, or never answered, on an account with many.
    ec2 = NoImages("aws")
    AwsImages(ec2, None).list()
    assert {each["PaginationConfig"]["PageSize"] for each in ec2.listings} == {1000}
