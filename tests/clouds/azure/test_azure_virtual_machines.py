"""Virtual machines over the real SDKs and the stand-in: what is made, removed, refused and told."""

from __future__ import annotations

import base64
import gc
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from arm_desk import offer, opened, remaining, settings_for, wanted
from arm_fake import ArmFake
from arm_records import StockOut
from cloud_requests import insistently
from cloud_wire import Fault

from cloud_tasks.errors import InputError, LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import Architecture, BootDisk, Headroom, InstanceState, Purchase
from cloud_tasks.plugin import ComputeContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import eventually


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[ArmFake]:
    with ArmFake(tmp_path / "arm") as fake:
        yield fake


def put(fake: ArmFake, name: str) -> dict[str, Any]:
    """What the machine of this name was made from."""
    return next(each.resource for each in fake.cloud.machines.values() if each.name == name)


ABANDONED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The SDK's transport leaves the socket of an answer that it gives up on to the garbage collector."""

# What is made


def test_a_spot_machine_is_deleted_when_it_is_taken_and_is_capped_by_nothing(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted(offer(spot=True))).instance_id
        told = put(fake, name)["properties"]
        assert (told["priority"], told["evictionPolicy"], told["billingProfile"]) == (
            "Spot",
            "Delete",
            {"maxPrice": -1},
        )
        on_demand = compute.launch(wanted()).instance_id
        assert not {"priority", "evictionPolicy", "billingProfile"} & put(fake, on_demand)["properties"].keys()


def test_all_parts_go_with_the_machine_and_carry_its_tags(fake: ArmFake) -> None:
    with opened(fake, public_address=True) as compute:
        request = wanted()
        name = compute.launch(request).instance_id
        parts = [each for each in fake.cloud.resources.values() if each["tags"].get("cloud-tasks-instance") == name]
        assert sorted(each["name"] for each in parts) == [f"{name}-disk", f"{name}-ip", f"{name}-nic"]
        assert {each["properties"]["deleteOption"] for each in parts} == {"Delete"}
        assert all(each["tags"]["cloud-tasks-token"] == request.client_token for each in parts)
        compute.terminate([name])
        assert [each for each in fake.cloud.resources.values() if each["name"].startswith(name)] == []


def test_a_machine_has_no_public_address_unless_asked_for(fake: ArmFake) -> None:
    with opened(fake) as compute:
        compute.launch(wanted())
        assert not [each for each in remaining(fake)[1] if each.startswith("publicIPAddresses")]


def test_a_machine_can_be_logged_in_to_by_nobody_unless_a_key_is_given(fake: ArmFake) -> None:
    with opened(fake, ssh_public_key=None) as compute:
        name = compute.launch(wanted()).instance_id
    login = put(fake, name)["properties"]["osProfile"]
    assert login["linuxConfiguration"]["disablePasswordAuthentication"] is True
    assert "adminPassword" not in login
    assert login["linuxConfiguration"]["ssh"]["publicKeys"][0]["keyData"].startswith("ssh-rsa ")


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
def test_the_image_fits_the_machine(fake: ArmFake, name: str, arm: bool, image: str | None, plan: str) -> None:
    disk = BootDisk(disk_type="Standard_LRS", size_gb=40)
    with opened(fake) as compute:
        made = compute.launch(wanted(attrs.evolve(offer(name, arm=arm), boot_disk=disk), image=image))
    told = put(fake, made.instance_id)["properties"]["storageProfile"]
    assert told["imageReference"]["sku"] == plan
    assert (told["osDisk"]["diskSizeGB"], told["osDisk"]["managedDisk"]["storageAccountType"]) == (40, "Standard_LRS")


def test_a_boot_disk_is_never_smaller_than_the_image(fake: ArmFake) -> None:
    with opened(fake) as compute:
        made = compute.launch(wanted())
    assert put(fake, made.instance_id)["properties"]["storageProfile"]["osDisk"]["diskSizeGB"] == 30


def test_a_machine_works_as_the_identity_of_the_settings(fake: ArmFake) -> None:
    identity = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/worker"
    with opened(fake, managed_identity=identity) as compute:
        name = compute.launch(wanted()).instance_id
    assert put(fake, name)["identity"] == {"type": "UserAssigned", "userAssignedIdentities": {identity: {}}}
    with opened(fake, managed_identity="system") as compute:
        name = compute.launch(wanted()).instance_id
    assert put(fake, name)["identity"] == {"type": "SystemAssigned"}


def test_a_machine_outside_of_zones_says_so(fake: ArmFake) -> None:
    with opened(fake) as compute:
        made = compute.launch(wanted(offer(zone="eastus")))
        assert made.zone == "eastus"
        assert "zones" not in put(fake, made.instance_id)


# Groups and networks


def test_launches_side_by_side_make_one_group_and_one_network_and_do_not_wait_for_each_other(fake: ArmFake) -> None:
    fake.cloud.times = attrs.evolve(fake.cloud.times, provision=0.5)
    with opened(fake) as compute, ThreadPoolExecutor(6) as threads:
        made = list(threads.map(compute.launch, [wanted() for _ in range(6)]))
        assert len({each.instance_id for each in made}) == 6
        assert fake.state()["most_creations_at_once"] >= 4
    calls = [path for method, path in fake.wire.calls if method == "PUT" and "virtualMachines" not in path]
    assert len(calls) == 3, calls


def test_what_was_made_for_a_job_goes_with_its_last_machine(fake: ArmFake) -> None:
    with opened(fake) as compute:
        names = [compute.launch(wanted()).instance_id for _ in range(2)]
        compute.terminate(names[:1])
    assert remaining(fake)[2] == ["cloud-tasks-job"]
    with opened(fake) as later:
        later.terminate(names)
    eventually(lambda: remaining(fake) == ([], [], []))


def test_a_group_that_holds_something_else_is_kept(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted()).instance_id
        group = f"/subscriptions/{fake.cloud.subscription}/resourceGroups/cloud-tasks-job"
        theirs = f"{group}/providers/Microsoft.Network/networkSecurityGroups/theirs"
        fake.cloud.put(theirs, "Microsoft.Network/networkSecurityGroups", {"location": "eastus", "tags": {}})
        compute.terminate([name])
    assert remaining(fake)[2] == ["cloud-tasks-job"]
    assert "networkSecurityGroups/theirs" in remaining(fake)[1]


def test_in_a_group_of_the_settings_only_the_network_is_removed(fake: ArmFake) -> None:
    fake.cloud.put_group("shared", {"location": "westeurope"})
    with opened(fake, resource_group="shared") as compute:
        name = compute.launch(wanted()).instance_id
        assert "/resourceGroups/shared/" in put(fake, name)["id"]
        compute.terminate([name])
    assert remaining(fake) == ([], [], ["shared"])


def test_a_subnet_of_the_settings_is_used_and_left(fake: ArmFake) -> None:
    fake.cloud.put_group("shared", {"location": "eastus"})
    group = f"/subscriptions/{fake.cloud.subscription}/resourceGroups/shared"
    network = f"{group}/providers/Microsoft.Network/virtualNetworks/net"
    body = {"location": "eastus", "tags": {}, "properties": {"subnets": [{"name": "mine"}]}}
    fake.cloud.put(network, "Microsoft.Network/virtualNetworks", body)
    with opened(fake, resource_group="shared", subnet=f"{network}/subnets/mine") as compute:
        name = compute.launch(wanted()).instance_id
        compute.terminate([name])
    assert remaining(fake) == ([], ["virtualNetworks/net"], ["shared"])


def test_a_network_that_somebody_removed_is_made_again(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted()).instance_id
        compute.terminate([name])
        fake.cloud.delete_group("cloud-tasks-job")
        eventually(lambda: remaining(fake)[2] == [])
        again = compute.launch(wanted())
        assert remaining(fake)[0] == [again.instance_id]


# Refusals and failures


@pytest.mark.parametrize(
    ("rule", "scope"),
    [
        (StockOut(), RefusalScope.OFFER),
        (StockOut(code="AllocationFailed"), RefusalScope.OFFER),
        (StockOut(code="SkuNotAvailable", at_once=True, message="Capacity Restrictions"), RefusalScope.OFFER),
        (StockOut(code="SkuNotAvailable", at_once=True, message="not available"), RefusalScope.INSTANCE_TYPE),
        (StockOut(code="OverconstrainedZonalAllocationRequest"), RefusalScope.OFFER),
        (StockOut(code="AuthorizationFailed", at_once=True, message="no right"), RefusalScope.ACCOUNT),
    ],
    ids=lambda each: getattr(each, "code", ""),
)
def test_a_launch_without_a_machine_is_refused_and_leaves_nothing(
    fake: ArmFake, rule: StockOut, scope: RefusalScope
) -> None:
    fake.cloud.stock_outs = [rule]
    with opened(fake) as compute:
        with pytest.raises(LaunchRefusedError) as refused:
            compute.launch(wanted())
        assert (refused.value.scope, refused.value.reason) == (scope, rule.code)
        machines, resources, _ = remaining(fake)
        assert machines == []
        assert {each.partition("/")[0] for each in resources} == {"virtualNetworks", "networkSecurityGroups"}


@pytest.mark.parametrize(
    ("limits", "spot", "scope"),
    [
        ({"cores": 1}, False, RefusalScope.REGION),
        ({"standardDSv5Family": 1}, False, RefusalScope.INSTANCE_TYPE),
        ({"lowPriorityCores": 1}, True, RefusalScope.REGION),
    ],
)
def test_a_quota_is_refused_as_far_as_it_reaches(
    fake: ArmFake, limits: dict[str, int], spot: bool, scope: RefusalScope
) -> None:
    fake.cloud.quotas["eastus"].update(limits)
    with opened(fake) as compute, pytest.raises(LaunchRefusedError, match="quota") as refused:
        compute.launch(wanted(offer(spot=spot)))
    assert refused.value.scope is scope
    assert "Quotas" in refused.value.hint


def test_launch_reports_a_missing_image_as_bad_input(fake: ArmFake) -> None:
    with opened(fake) as compute:
        for image in ("nonesuch", "Nobody:none:such:latest"):
            with pytest.raises(InputError, match=r"run\.image: there is no image"):
                compute.launch(wanted(image=image))


@ABANDONED
def test_a_launch_whose_answer_was_lost_makes_one_machine(fake: ArmFake) -> None:
    with opened(fake) as compute:
        compute.launch(wanted())
        fake.wire.fault = Fault(share=0.3, after_effect=1.0, status=None)
        request = wanted()
        problems = []
        for _ in range(20):
            try:
                made = compute.launch(request)
                break
            except ProviderError as error:
                problems.append(error)
        fake.wire.fault = None
        assert all(problem.transient for problem in problems)
        assert [each.instance_id for each in compute.instances("job")].count(made.instance_id) == 1
        assert len([each for each in fake.cloud.creations if each.name == made.instance_id]) == 1
    gc.collect()


def test_a_machine_that_failed_by_an_earlier_call_is_removed_and_may_be_asked_for_again(fake: ArmFake) -> None:
    fake.cloud.stock_outs = [StockOut()]
    request = wanted()
    with opened(fake) as compute:
        with pytest.raises(LaunchRefusedError):
            compute.launch(request)
        fake.cloud.stock_outs = []
        assert compute.launch(request).state is InstanceState.RUNNING


@ABANDONED
def test_what_is_wanted_happens_through_answers_that_fail_and_get_lost(fake: ArmFake) -> None:
    fake.wire.fault = Fault(share=0.15, status=503)
    requests = [wanted() for _ in range(6)]

    with opened(fake) as compute:
        with ThreadPoolExecutor(6) as threads:
            made = threads.map(lambda request: insistently(lambda: compute.launch(request)), requests)
            names = sorted(each.instance_id for each in made)
        assert sorted(each.instance_id for each in insistently(lambda: compute.instances("job"))) == names
        assert len(set(names)) == 6
        insistently(lambda: compute.terminate(names))
        assert insistently(lambda: list(compute.instances("job"))) == []
        struck, fake.wire.fault = fake.wire.struck, None
    assert struck > 5
    eventually(lambda: remaining(fake) == ([], [], []))
    gc.collect()


# Listing


def test_a_listing_of_which_a_page_failed_raises(fake: ArmFake) -> None:
    with opened(fake) as compute:
        for _ in range(3):
            compute.launch(wanted())
        fake.page_size, fake.broken_pages = 2, True
        with pytest.raises(ProviderError, match="cannot list machines") as caught:
            compute.instances("job")
        assert caught.value.transient
        fake.broken_pages = False
        assert len(compute.instances("job")) == 3


def test_a_machine_that_powered_itself_off_is_still_there_and_goes_by_terminate(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted(startup_script="#!/bin/bash\nshutdown -h now\nsleep 60\n")).instance_id
        eventually(lambda: [each.state for each in compute.instances("job")] == [InstanceState.STOPPED])
        compute.terminate([name])
        assert list(compute.instances("job")) == []


def test_a_machine_with_an_identity_deletes_itself_at_the_end_of_its_life(fake: ArmFake) -> None:
    with opened(fake, managed_identity="system", metadata_url="http://127.0.0.1:9") as compute:
        compute.launch(wanted(max_lifetime=timedelta(seconds=1)))
        eventually(lambda: list(compute.instances("job")) == [])
    assert not [each for each in remaining(fake)[1] if "disk" in each.lower()]


def test_an_evicted_machine_is_gone_with_its_parts(fake: ArmFake) -> None:
    fake.cloud.times = attrs.evolve(fake.cloud.times, preemption=0.2)
    with opened(fake) as compute:
        name = compute.launch(wanted(offer(spot=True))).instance_id
        assert fake.evict(name) == [name]
        eventually(lambda: list(compute.instances("job")) == [])
    assert not [each for each in remaining(fake)[1] if each.endswith(("-disk", "-nic"))]


# Removing


def test_parts_that_stayed_behind_are_removed_too(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted()).instance_id
        for part in fake.cloud.resources.values():
            if part["name"].startswith(name):
                part["properties"]["deleteOption"] = "Detach"
        compute.terminate([name])
        assert not [each for each in remaining(fake)[1] if each.partition("/")[2].startswith(name)]


def test_one_that_cannot_be_deleted_keeps_no_other_and_is_told(fake: ArmFake) -> None:
    with opened(fake) as compute:
        names = [compute.launch(wanted()).instance_id for _ in range(3)]
        fake.cloud.undeletable = {names[1]}
        with pytest.raises(ProviderError, match=f"cannot delete {names[1]}"):
            compute.terminate(names)
        assert remaining(fake)[0] == [names[1]]
        fake.cloud.undeletable = set()
        compute.terminate(names)
        assert remaining(fake)[0] == []


def test_machines_of_others_are_never_ended(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted()).instance_id
        for each in (put(fake, name), *fake.cloud.resources.values()):
            each["tags"] = {"team": "others"}
        compute.terminate([name])
        assert remaining(fake)[0] == [name]


def test_deletions_run_side_by_side(fake: ArmFake) -> None:
    with opened(fake) as compute:
        with ThreadPoolExecutor(6) as threads:
            made = threads.map(compute.launch, [wanted() for _ in range(6)])
            names = [each.instance_id for each in made]
        fake.cloud.times = attrs.evolve(fake.cloud.times, delete=0.4)
        compute.terminate(names)
    ends = [
        each for each in fake.cloud.operations.values() if each.kind == "delete" and "virtualmachines" in each.target
    ]
    assert max(each.began for each in ends) < min(each.ended or 0.0 for each in ends)


# What there is


def test_sizes_are_offered_where_the_subscription_may_have_them(fake: ArmFake) -> None:
    with opened(fake) as compute:
        types = {each.name: each for each in compute.instance_types()}
    assert types["Standard_D2s_v5"].zones == ("eastus-1", "eastus-2", "eastus-3")
    assert types["Standard_NC24ads_A100_v4"].zones == ("eastus-3",)
    assert types["Standard_NC4as_T4_v3"].zones == ("eastus",)
    assert "Standard_D2s_v6" not in types
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
    assert "Premium_LRS" not in types["Standard_D2_v5"].boot_disk_types


def test_headroom_is_what_the_first_quota_leaves(fake: ArmFake) -> None:
    fake.cloud.quotas["eastus"] |= {"cores": 100, "standardDSv5Family": 9, "lowPriorityCores": 6}
    with opened(fake) as compute:
        compute.launch(wanted())
        assert compute.headroom(offer()) == Headroom(instances=3, limited_by="standardDSv5Family")
        assert compute.headroom(offer(spot=True)) == Headroom(instances=3, limited_by="lowPriorityCores")


def test_regions_have_their_zones_and_the_place_outside_of_them(fake: ArmFake) -> None:
    with opened(fake) as compute:
        zones = {region.name: region.zones for region in compute.regions()}
    assert zones["eastus"] == ("eastus-1", "eastus-2", "eastus-3", "eastus")
    assert zones["northcentralus"] == ("northcentralus",)


def test_a_region_that_is_not_there_is_bad_input(fake: ArmFake) -> None:
    backend = Registry(only=["azure"]).compute("azure")
    context = ComputeContext(job_id="", region="atlantis")
    with backend.open(settings_for(fake), context) as compute, pytest.raises(InputError, match='no region "atlantis"'):
        compute.instance_types()


def test_operations_are_followed_as_the_service_asks(fake: ArmFake) -> None:
    fake.retry_after = "1"
    with opened(fake) as compute:
        compute.launch(wanted())
    looks = [path for _, path in fake.wire.calls if re.search(r"/operations/", path)]
    assert len(looks) <= 6


def test_the_console_tells_nothing_of_an_unknown_machine_and_no_signature(fake: ArmFake) -> None:
    with opened(fake) as compute:
        assert compute.console_log("nobody") == ""
        name = compute.launch(wanted()).instance_id
        eventually(lambda: "started" in compute.console_log(name))
        fake.cloud.console = lambda name: 1 / 0  # type: ignore[method-assign,assignment,return-value]
        with pytest.raises(ProviderError) as caught:
            compute.console_log(name)
    assert "very-secret" not in f"{caught.value}{caught.value.__cause__}"


def test_a_long_script_arrives_as_it_was(fake: ArmFake) -> None:
    script = "#!/bin/bash\n" + "# a line that says little\n" * 4000 + "echo arrived\n"
    with opened(fake) as compute:
        name = compute.launch(wanted(startup_script=script)).instance_id
        eventually(lambda: "arrived" in compute.console_log(name))
    sent = base64.b64decode(put(fake, name)["properties"]["osProfile"]["customData"])
    assert len(sent) < 65_535 < len(script)


def test_a_purchase_is_read_back_as_it_was(fake: ArmFake) -> None:
    with opened(fake) as compute:
        compute.launch(wanted(offer(spot=True)))
        (found,) = compute.instances("job")
    assert (found.purchase, found.boot_disk_type) == (Purchase.SPOT, "StandardSSD_LRS")
