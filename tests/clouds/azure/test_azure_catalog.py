"""Sizes, quotas and regions of a subscription."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from arm_fake import SUBSCRIPTION, ArmFake
from arm_requests import offer, opened, settings_for, wanted
from fake_server import Answer, FakeServer, Request

from cloud_tasks.errors import InputError, LaunchRefusedError, RefusalScope
from cloud_tasks.model import Architecture, Headroom
from cloud_tasks.plugin import ComputeContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import eventually
from cloud_tasks_azure.compute.arm import Arm
from cloud_tasks_azure.compute.locations import Locations
from cloud_tasks_azure.settings import AzureSettings


def test_sizes_of_a_location_are_read_once_and_while_those_of_another_are_read() -> None:
    server, other_is_known = FakeServer(), threading.Event()

    def skus(request: Request) -> Answer:
        # The first location's are sent when the other's are known.
        is_first = "westus2" in request.query["$filter"]
        return Answer(body={"value": []}) if not is_first or other_is_known.wait(30) else Answer(status=400)

    server.route("GET", ".*/skus", skus)
    settings = AzureSettings(subscription_id=SUBSCRIPTION, management_endpoint=server.url)
    with server.serving(), closing(Arm(settings)) as arm, ThreadPoolExecutor(2) as threads:
        locations = Locations(arm, has_address=False)
        first = [threads.submit(locations.sizes, "westus2") for _ in range(2)]
        eventually(lambda: len(server.calls) == 1)
        assert locations.sizes("eastus") == {}
        other_is_known.set()
        assert [each.result() for each in first] == [{}, {}]
        assert len(server.calls) == 2


def test_instance_types_have_the_zones_of_the_subscription(fake: ArmFake) -> None:
    with opened(fake) as compute:
        types = {each.name: each for each in compute.instance_types()}
    assert types["Standard_D2s_v5"].zones == ("eastus-1", "eastus-2", "eastus-3")
    assert types["Standard_NC24ads_A100_v4"].zones == ("eastus-3",)
    assert types["Standard_NC4as_T4_v3"].zones == ("eastus",)
    assert "Standard_D2s_v6" not in types
    assert "Standard_DC2as_v5" not in types
    arm = types["Standard_D4ps_v5"]
    assert (arm.architecture, arm.vcpus, arm.memory_gb, arm.cpu_family) == (
        Architecture.ARM64,
        4,
        16.0,
        "Ampere Altra",
    )
    assert (types["Standard_NC24ads_A100_v4"].gpu_count, types["Standard_NC24ads_A100_v4"].gpu_type) == (1, "A100")
    assert types["Standard_E16-4s_v5"].vcpus == 4
    assert not types["Standard_B2s"].supports_spot
    # Which selection leaves out unless they are named, and counts in slots.
    assert {name for name, each in types.items() if each.sustained_cpu < 1} == {
        name for name in types if name.startswith("Standard_B")
    }
    assert "Premium_LRS" not in types["Standard_D2_v5"].boot_disk_types


def test_headroom_is_the_smallest_of_all_quotas(fake: ArmFake) -> None:
    fake.cloud.quotas["eastus"] |= {"cores": 100, "standardDSv5Family": 9, "lowPriorityCores": 6}
    with opened(fake) as compute:
        compute.launch(wanted())
        assert compute.headroom(offer()) == Headroom(instances=3, limited_by="standardDSv5Family")
        assert compute.headroom(offer(spot=True)) == Headroom(instances=3, limited_by="lowPriorityCores")


def test_headroom_includes_the_quota_of_public_addresses(fake: ArmFake) -> None:
    fake.cloud.max_addresses = 2
    with opened(fake, public_address=True) as compute:
        compute.launch(wanted())
        assert compute.headroom(offer()) == Headroom(instances=1, limited_by="IPv4StandardSkuPublicIpAddresses")
        compute.launch(wanted())
        with pytest.raises(LaunchRefusedError, match="public IP") as refused:
            compute.launch(wanted())
    assert (refused.value.scope, "public_address" in refused.value.hint) == (RefusalScope.REGION, True)


def test_regions_list_zones_and_the_region_itself(fake: ArmFake) -> None:
    with opened(fake) as compute:
        zones = {region.name: region.zones for region in compute.regions()}
    assert zones["eastus"] == ("eastus-1", "eastus-2", "eastus-3", "eastus")
    assert zones["northcentralus"] == ("northcentralus",)


def test_instance_types_of_unknown_region_raises_input_error(fake: ArmFake) -> None:
    backend = Registry(only=["azure"]).compute("azure")
    context = ComputeContext(job_id="", region="atlantis")
    with (
        backend.open(settings_for(fake), context) as compute,
        pytest.raises(InputError, match='region "atlantis" not found'),
    ):
        compute.instance_types()
