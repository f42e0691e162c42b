"""Images that are made of VMs: complete, tagged, or gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from arm_fake import SUBSCRIPTION, ArmFake
from arm_records import ArmError
from arm_requests import body_of, offer, opened, remaining, wanted

from cloud_tasks.errors import InputError, LaunchRefusedError, ProviderError
from cloud_tasks.model import Architecture
from cloud_tasks.plugin import ImageMaker

NAME = "cloud-tasks-0123456789abcdef"
GALLERY = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/cloud-tasks/providers/Microsoft.Compute/galleries/cloud_tasks_eastus"
)
DEFINITION = f"{GALLERY}/images/{NAME}"
VERSION = f"{DEFINITION}/versions/1.0.0"


@pytest.fixture
def compute(fake: ArmFake) -> Iterator[Any]:
    fake.cloud.times = attrs.evolve(fake.cloud.times, guest_shutdown=0.0)
    with opened(fake, tags={"team": "moon"}) as opened_compute:
        assert isinstance(opened_compute, ImageMaker)
        yield opened_compute


def resource(fake: ArmFake, path: str) -> dict[str, Any]:
    return fake.cloud.images.get(path)


def images(fake: ArmFake) -> list[str]:
    return [each for each in remaining(fake)[1] if each.startswith(("images/", "versions/"))]


@pytest.mark.parametrize(
    ("size", "arm", "architecture", "generation"),
    [
        ("Standard_D2s_v5", False, "x64", "V2"),
        ("Standard_D2ps_v5", True, "Arm64", "V2"),
        ("Standard_A2_v2", False, "x64", "V1"),
    ],
)
def test_image_is_made_of_the_deallocated_vm_and_starts_others(
    compute: Any, fake: ArmFake, size: str, arm: bool, architecture: str, generation: str
) -> None:
    request = wanted(offer(size, arm=arm))
    name = compute.launch(request).instance_id
    assert compute.find_own_image(NAME) is None
    assert compute.make_image(name, NAME) == VERSION
    assert compute.find_own_image(NAME) == VERSION
    assert fake.state()["instances"][0]["status"] == "deallocated"
    compute.terminate([name])
    definition, version = resource(fake, DEFINITION), resource(fake, VERSION)
    properties = definition["properties"]
    assert (properties["architecture"], properties["hyperVGeneration"]) == (architecture, generation)
    assert {each["name"] for each in properties["features"]} == {"DiskControllerTypes", "IsAcceleratedNetworkSupported"}
    for each in (definition, version, resource(fake, GALLERY), fake.cloud.group("cloud-tasks")):
        assert each["tags"] == {"cloud-tasks-image": "1", "team": "moon"}
    chosen = Architecture.ARM64 if arm else Architecture.X86_64
    assert compute.find_image(VERSION, chosen).min_disk_gb == 30
    other = compute.launch(attrs.evolve(wanted(offer(size, arm=arm)), image=VERSION)).instance_id
    assert body_of(fake, other)["properties"]["storageProfile"]["imageReference"] == {"id": VERSION}
    compute.terminate([other])


def test_image_is_in_the_group_of_the_settings(fake: ArmFake) -> None:
    fake.cloud.times = attrs.evolve(fake.cloud.times, guest_shutdown=0.0)
    fake.cloud.put_group("moon", {"location": "eastus"})
    with opened(fake, resource_group="moon") as compute:
        assert isinstance(compute, ImageMaker)
        name = compute.launch(wanted()).instance_id
        path = compute.make_image(name, NAME)
        compute.terminate([name])
    assert path == VERSION.replace("/cloud-tasks/", "/moon/")
    assert images(fake) == [f"images/{NAME}", "versions/1.0.0"]


def test_image_of_another_architecture_or_generation_is_refused(compute: Any) -> None:
    name = compute.launch(wanted()).instance_id
    path = compute.make_image(name, NAME)
    compute.terminate([name])
    with pytest.raises(InputError, match="is for x86_64"):
        compute.launch(wanted(offer("Standard_D2ps_v5", arm=True), image=path))
    with pytest.raises(LaunchRefusedError, match="generation V2"):
        compute.launch(wanted(offer("Standard_A2_v2"), image=path))


def test_image_has_the_plan_and_security_of_its_vm(compute: Any, fake: ArmFake) -> None:
    plan = {"name": "ngc-base-version-24_4_0_gen2", "publisher": "nvidia", "product": "ngc_azure_17_11"}
    urn = "nvidia:ngc_azure_17_11:ngc-base-version-24_4_0_gen2:latest"
    name = compute.launch(wanted(image=urn)).instance_id
    (disk,) = fake.cloud.find(lambda each: each["type"].endswith("/disks"))
    disk["properties"]["securityProfile"] = {"securityType": "TrustedLaunch"}
    path = compute.make_image(name, NAME)
    compute.terminate([name])
    properties = resource(fake, DEFINITION)["properties"]
    assert properties["purchasePlan"] == plan
    assert {"name": "SecurityType", "value": "TrustedLaunch"} in properties["features"]
    other = compute.launch(wanted(image=path)).instance_id
    assert body_of(fake, other)["plan"] == plan
    compute.terminate([other])


def test_make_image_returns_the_one_that_exists(compute: Any, fake: ArmFake) -> None:
    first, second = (compute.launch(wanted()).instance_id for _ in range(2))
    assert [compute.make_image(each, NAME) for each in (first, second)] == [VERSION, VERSION]
    assert {each["name"]: each["status"] for each in fake.state()["instances"]}[second] == "running"
    compute.terminate([first, second])


@pytest.mark.parametrize("outcome", ["Succeeded", "Failed"])
def test_image_that_another_call_makes_is_waited_for(
    compute: Any, fake: ArmFake, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    first, second = (compute.launch(wanted()).instance_id for _ in range(2))
    compute.make_image(first, NAME)
    properties = resource(fake, VERSION)["properties"]
    properties["provisioningState"] = "Creating"
    checked = fake.cloud.images._check_version

    def finishing(*arguments: Any) -> None:
        fake.cloud.timeline.after(0.05, lambda: properties.update(provisioningState=outcome))
        checked(*arguments)

    monkeypatch.setattr(fake.cloud.images, "_check_version", finishing)
    if outcome == "Succeeded":
        assert compute.make_image(second, NAME) == VERSION
    else:
        with pytest.raises(ProviderError, match="it is failed"):
            compute.make_image(second, NAME)
        assert images(fake) == []
    compute.terminate([first, second])


def test_image_that_failed_is_deleted_and_its_reason_is_raised(compute: Any, fake: ArmFake) -> None:
    name = compute.launch(wanted()).instance_id
    fake.cloud.images.failure = "The copy failed."
    with pytest.raises(ProviderError, match=f"cannot make the image {NAME}: .*The copy failed"):
        compute.make_image(name, NAME)
    assert images(fake) == []
    assert compute.make_image(name, NAME) == VERSION
    compute.terminate([name])


def test_image_that_is_refused_leaves_no_definition(
    compute: Any, fake: ArmFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = compute.launch(wanted()).instance_id

    def refuse(*_: object) -> None:
        raise ArmError(403, "AuthorizationFailed", "no authorization to perform versions/write")

    monkeypatch.setattr(fake.cloud.images, "_check_version", refuse)
    with pytest.raises(ProviderError, match="AuthorizationFailed"):
        compute.make_image(name, NAME)
    assert images(fake) == []
    compute.terminate([name])


def test_image_that_an_ended_call_left_failed_is_made_again(compute: Any, fake: ArmFake) -> None:
    name = compute.launch(wanted()).instance_id
    compute.make_image(name, NAME)
    resource(fake, VERSION)["properties"]["provisioningState"] = "Failed"
    assert compute.find_own_image(NAME) is None
    assert compute.make_image(name, NAME) == VERSION
    assert compute.find_own_image(NAME) == VERSION
    compute.terminate([name])


@pytest.mark.parametrize("path", [DEFINITION, VERSION])
def test_image_of_the_user_is_neither_found_nor_deleted(compute: Any, fake: ArmFake, path: str) -> None:
    name = compute.launch(wanted()).instance_id
    compute.make_image(name, NAME)
    own = resource(fake, path)
    own["tags"] = {}
    assert compute.find_own_image(NAME) == (None if path == VERSION else VERSION)
    resource(fake, VERSION)["properties"]["provisioningState"] = "Failed"
    with pytest.raises(ProviderError, match="has another one of this name"):
        compute.make_image(name, NAME)
    assert resource(fake, path) is own
    compute.terminate([name])


def test_image_of_an_instance_that_is_gone_is_refused(compute: Any) -> None:
    with pytest.raises(ProviderError, match="ct-job-1: it does not exist"):
        compute.make_image("ct-job-1", NAME)


def test_arm_generalizes_and_captures_only_what_is_stopped(compute: Any, fake: ArmFake) -> None:
    name = compute.launch(wanted()).instance_id
    (vm,) = fake.cloud.machines.values()
    with pytest.raises(ArmError, match="only a stopped one") as refused:
        fake.cloud.images.generalize(vm)
    assert (refused.value.status, refused.value.code) == (409, "OperationNotAllowed")
    compute.make_image(name, NAME)
    vm.generalized = False
    body = {"location": "eastus", "properties": resource(fake, VERSION)["properties"]}
    body["properties"] = {key: body["properties"][key] for key in ("publishingProfile", "storageProfile")}
    with pytest.raises(ArmError, match="not generalized"):
        fake.cloud.images.put(VERSION.replace("1.0.0", "1.0.1"), "Microsoft.Compute/galleries/images/versions", body)
    with pytest.raises(ArmError, match="nested resources"):
        fake.cloud.images.delete(DEFINITION)
    compute.terminate([name])
