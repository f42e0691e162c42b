"""Images of virtual machines: plans, sizes, architectures."""

from __future__ import annotations

import importlib.metadata
from contextlib import closing

import attrs
import pytest
from arm_fake import SUBSCRIPTION, ArmFake
from arm_requests import body_of, offer, opened, remaining, wanted
from fake_server import Answer, FakeServer

from cloud_tasks.errors import InputError, LaunchRefusedError, RefusalScope
from cloud_tasks.model import Architecture, BootDisk
from cloud_tasks.plugin import ImageLookup
from cloud_tasks_azure.compute.arm import Arm
from cloud_tasks_azure.compute.image_resolver import ImageResolver, well_known_images
from cloud_tasks_azure.settings import AzureSettings


@pytest.mark.parametrize(
    ("name", "arm", "image", "plan"),
    [
        ("Standard_D2s_v5", False, None, "server"),
        ("Standard_D2ps_v5", True, None, "server-arm64"),
        ("Standard_A2_v2", False, None, "server-gen1"),
        ("Standard_D2s_v5", False, "debian-12", "12-gen2"),
        ("Standard_D2s_v5", False, "Canonical:0001-com-ubuntu-server-jammy:22_04-lts-gen2:latest", "22_04-lts-gen2"),
    ],
)
def test_image_plan_matches_the_vm_size(fake: ArmFake, name: str, arm: bool, image: str | None, plan: str) -> None:
    disk = BootDisk(disk_type="Standard_LRS", size_gb=40)
    with opened(fake) as compute:
        launched = compute.launch(wanted(attrs.evolve(offer(name, arm=arm), boot_disk=disk), image=image))
    storage = body_of(fake, launched.instance_id)["properties"]["storageProfile"]
    assert storage["imageReference"]["sku"] == plan
    assert (storage["osDisk"]["diskSizeGB"], storage["osDisk"]["managedDisk"]["storageAccountType"]) == (
        40,
        "Standard_LRS",
    )


def test_missing_platform_image_raises_input_error(fake: ArmFake) -> None:
    with (
        opened(fake) as compute,
        pytest.raises(InputError, match=r'run\.image: image "Unknown:none:such:latest" not found'),
    ):
        compute.launch(wanted(image="Unknown:none:such:latest"))


def test_missing_managed_image_raises_input_error(fake: ArmFake) -> None:
    with opened(fake) as compute, pytest.raises(InputError, match=r'run\.image: image "nonesuch" not found'):
        compute.launch(wanted(image="nonesuch"))


def test_image_of_another_architecture_is_bad_input(fake: ArmFake) -> None:
    urn = "Canonical:ubuntu-24_04-lts:server-arm64:latest"
    with opened(fake) as compute:
        assert isinstance(compute, ImageLookup)
        assert compute.find_image(urn, Architecture.ARM64) is not None
        for call in (
            lambda: compute.find_image(urn, Architecture.X86_64),
            lambda: compute.launch(wanted(image=urn)),
        ):
            with pytest.raises(InputError, match="is for arm64"):
                call()
    assert remaining(fake)[0] == []


def test_image_with_a_plan_is_launched_with_it_and_a_disk_of_its_size(fake: ArmFake) -> None:
    urn = "nvidia:ngc_azure_17_11:ngc-base-version-24_4_0_gen2:latest"
    with opened(fake) as compute:
        assert isinstance(compute, ImageLookup)
        found = compute.find_image(urn, Architecture.X86_64)
        assert found is not None
        assert found.min_disk_gb == 64
        for _ in range(2):
            launched = compute.launch(wanted(image=urn))
    body = body_of(fake, launched.instance_id)
    assert body["plan"]["product"] == "ngc_azure_17_11"
    assert body["properties"]["storageProfile"]["osDisk"]["diskSizeGB"] == 64
    reads = [path for _, path in fake.server.calls if "/versions" in path]
    assert [path.rpartition("/")[2] for path in reads] == ["versions", "1.10.20250601"]


def test_well_known_images_have_a_python_that_runs_the_worker() -> None:
    python = {"ubuntu-24_04-lts": (3, 12), "debian-12": (3, 11)}  # packages.ubuntu.com, packages.debian.org
    required = importlib.metadata.metadata("cloud-tasks")["Requires-Python"].removeprefix(">=")
    names = {image.name for image in well_known_images()}
    assert names == {name for name, version in python.items() if version >= tuple(map(int, required.split(".")))}


def test_image_of_a_gallery_is_read_in_its_subscription() -> None:
    other = SUBSCRIPTION[:-1] + "f"
    definition = f"/subscriptions/{other}/resourceGroups/g/providers/Microsoft.Compute/galleries/shared/images/mine"
    plan = {"name": "n", "publisher": "p", "product": "q"}
    server = FakeServer()
    storage = {"storageProfile": {"osDiskImage": {"sizeInGB": 64}}}
    server.route("GET", rf"{definition}/versions/1\.0\.0", lambda request: Answer(body={"properties": storage}))
    described = {"purchasePlan": plan, "architecture": "x64", "hyperVGeneration": "V2"}
    server.route("GET", definition, lambda request: Answer(body={"properties": described}))
    with (
        server.serving(),
        closing(Arm(AzureSettings(subscription_id=SUBSCRIPTION, management_endpoint=server.url))) as arm,
    ):
        images = ImageResolver(arm)
        found = images.resolve(f"{definition}/versions/1.0.0", Architecture.X86_64, "eastus")
        latest = images.resolve(definition, Architecture.X86_64, "eastus")
        assert images.resolve(f"{definition}/versions/Latest", Architecture.X86_64, "eastus") == latest
        with pytest.raises(LaunchRefusedError, match="generation V2") as refused:
            images.resolve(definition, Architecture.X86_64, "eastus", frozenset({"V1"}))
        assert refused.value.scope is RefusalScope.INSTANCE_TYPE
        with pytest.raises(InputError, match="is for x86_64"):
            images.resolve(definition, Architecture.ARM64, "eastus")
        for name in (f"/subscriptions/{other}", f"{definition.partition('/images/')[0]}"):
            with pytest.raises(InputError, match="not found"):
                images.resolve(name, Architecture.X86_64, "eastus")
    assert (found.plan, found.min_disk_gb, found.reference) == (plan, 64, {"id": f"{definition}/versions/1.0.0"})
    assert (latest.plan, latest.min_disk_gb) == (plan, None)
