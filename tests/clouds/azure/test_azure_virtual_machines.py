"""Virtual machines with the real SDKs against the fake: creation, deletion, refusals and listings."""

from __future__ import annotations

import base64
import gc
import importlib.metadata
import itertools
import math
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from arm_fake import SUBSCRIPTION, ArmFake
from arm_records import StockOut
from arm_requests import KEY, offer, opened, remaining, settings_for, wanted
from cloud_requests import insistently
from fake_server import Answer, FakeServer, Fault, Request

from cloud_tasks.errors import InputError, LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import Architecture, BootDisk, Headroom, InstanceState, Money, ProvisioningModel
from cloud_tasks.plugin import Compute, ComputeContext, ImageLookup
from cloud_tasks.registry import Registry
from cloud_tasks.testing import eventually
from cloud_tasks_azure.compute import backend, terminate
from cloud_tasks_azure.compute.arm import Arm, Operation
from cloud_tasks_azure.compute.image_resolver import ImageResolver, well_known_images
from cloud_tasks_azure.compute.listing import get_vm, list_parts, list_skus, list_usages, list_vms, vm_statuses
from cloud_tasks_azure.compute.locations import Locations
from cloud_tasks_azure.compute.tags import group_name, network_name
from cloud_tasks_azure.settings import AzureSettings


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[ArmFake]:
    with ArmFake(tmp_path / "arm") as fake:
        yield fake


def body_of(fake: ArmFake, name: str) -> dict[str, Any]:
    """Return the request body of the VM of this name."""
    return next(each.resource for each in fake.cloud.machines.values() if each.name == name)


ABANDONED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The SDK leaves the socket of an abandoned response to the garbage collector."""

# Creation


def test_spot_vm_is_deleted_on_eviction_and_limited_by_the_on_demand_price(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted(offer(spot=True))).instance_id
        properties = body_of(fake, name)["properties"]
        assert (properties["priority"], properties["evictionPolicy"], properties["billingProfile"]) == (
            "Spot",
            "Delete",
            {"maxPrice": -1},
        )
        on_demand = compute.launch(wanted()).instance_id
        assert not {"priority", "evictionPolicy", "billingProfile"} & body_of(fake, on_demand)["properties"].keys()


def test_spot_vm_has_the_maximum_price_of_its_request(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted(offer(spot=True), max_price_per_hour=Money("0.0253441"))).instance_id
        assert body_of(fake, name)["properties"]["billingProfile"] == {"maxPrice": 0.02535}
        on_demand = compute.launch(wanted(max_price_per_hour=Money("0.1"))).instance_id
        assert "billingProfile" not in body_of(fake, on_demand)["properties"]


def test_vm_resources_carry_its_tags_and_are_deleted_with_it(fake: ArmFake) -> None:
    with opened(fake, public_address=True) as compute:
        request = wanted()
        name = compute.launch(request).instance_id
        parts = [each for each in fake.cloud.resources.values() if each["tags"].get("cloud-tasks-instance") == name]
        assert sorted(each["name"] for each in parts) == [f"{name}-disk", f"{name}-ip", f"{name}-nic"]
        assert {each["properties"]["deleteOption"] for each in parts} == {"Delete"}
        assert all(each["tags"]["cloud-tasks-token"] == request.client_token for each in parts)
        compute.terminate([name])
        assert [each for each in fake.cloud.resources.values() if each["name"].startswith(name)] == []


def test_vm_has_no_public_address_by_default(fake: ArmFake) -> None:
    with opened(fake) as compute:
        compute.launch(wanted())
        assert not [each for each in remaining(fake)[1] if each.startswith("publicIPAddresses")]


def test_vm_login_is_impossible_without_configured_key(fake: ArmFake) -> None:
    with opened(fake, ssh_public_key=None) as compute:
        name = compute.launch(wanted()).instance_id
    login = body_of(fake, name)["properties"]["osProfile"]
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


def test_boot_disk_is_at_least_the_image_size(fake: ArmFake) -> None:
    with opened(fake) as compute:
        launched = compute.launch(wanted())
    assert body_of(fake, launched.instance_id)["properties"]["storageProfile"]["osDisk"]["diskSizeGB"] == 30


def test_vm_has_the_configured_managed_identity(fake: ArmFake) -> None:
    identity = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/worker"
    with opened(fake, managed_identity=identity) as compute:
        name = compute.launch(wanted()).instance_id
    assert body_of(fake, name)["identity"] == {"type": "UserAssigned", "userAssignedIdentities": {identity: {}}}
    with opened(fake, managed_identity="system") as compute:
        name = compute.launch(wanted()).instance_id
    assert body_of(fake, name)["identity"] == {"type": "SystemAssigned"}


def test_vm_without_zone_is_in_its_location(fake: ArmFake) -> None:
    with opened(fake) as compute:
        launched = compute.launch(wanted(offer(zone="eastus")))
        assert launched.zone == "eastus"
        assert "zones" not in body_of(fake, launched.instance_id)


# Groups and networks


def test_concurrent_launches_create_one_group_and_network(fake: ArmFake) -> None:
    fake.cloud.times = attrs.evolve(fake.cloud.times, provision=0.5)
    with opened(fake) as compute, ThreadPoolExecutor(6) as threads:
        launched = list(threads.map(compute.launch, [wanted() for _ in range(6)]))
        assert len({each.instance_id for each in launched}) == 6
        assert fake.state()["max_concurrent_creations"] >= 4
    calls = [path for method, path in fake.server.calls if method == "PUT" and "virtualMachines" not in path]
    assert len(calls) == 3, calls


def test_group_is_deleted_with_the_last_vm_of_the_job(fake: ArmFake) -> None:
    with opened(fake) as compute:
        names = [compute.launch(wanted()).instance_id for _ in range(2)]
        compute.terminate(names[:1])
    assert remaining(fake)[2] == ["cloud-tasks-job"]
    with opened(fake) as later:
        later.terminate(names)
    eventually(lambda: remaining(fake) == ([], [], []))


def test_group_with_other_resources_is_kept(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted()).instance_id
        group = f"/subscriptions/{fake.cloud.subscription}/resourceGroups/cloud-tasks-job"
        theirs = f"{group}/providers/Microsoft.Network/networkSecurityGroups/theirs"
        fake.cloud.put(theirs, "Microsoft.Network/networkSecurityGroups", {"location": "eastus", "tags": {}})
        compute.terminate([name])
    assert remaining(fake)[2] == ["cloud-tasks-job"]
    assert "networkSecurityGroups/theirs" in remaining(fake)[1]


def test_configured_group_is_kept_and_its_job_network_deleted(fake: ArmFake) -> None:
    fake.cloud.put_group("shared", {"location": "westeurope"})
    with opened(fake, resource_group="shared") as compute:
        name = compute.launch(wanted()).instance_id
        assert "/resourceGroups/shared/" in body_of(fake, name)["id"]
        compute.terminate([name])
    assert remaining(fake) == ([], [], ["shared"])


def test_configured_subnet_is_used_and_kept(fake: ArmFake) -> None:
    fake.cloud.put_group("shared", {"location": "eastus"})
    group = f"/subscriptions/{fake.cloud.subscription}/resourceGroups/shared"
    network = f"{group}/providers/Microsoft.Network/virtualNetworks/net"
    body = {"location": "eastus", "tags": {}, "properties": {"subnets": [{"name": "mine"}]}}
    fake.cloud.put(network, "Microsoft.Network/virtualNetworks", body)
    with opened(fake, resource_group="shared", subnet=f"{network}/subnets/mine") as compute:
        name = compute.launch(wanted()).instance_id
        compute.terminate([name])
    assert remaining(fake) == ([], ["virtualNetworks/net"], ["shared"])


def test_deleted_network_is_created_again(fake: ArmFake) -> None:
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
def test_launch_without_capacity_is_refused_and_leaves_no_resources(
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
def test_quota_refusal_has_the_scope_of_the_quota(
    fake: ArmFake, limits: dict[str, int], spot: bool, scope: RefusalScope
) -> None:
    fake.cloud.quotas["eastus"].update(limits)
    with opened(fake) as compute, pytest.raises(LaunchRefusedError, match="quota") as refused:
        compute.launch(wanted(offer(spot=spot)))
    assert refused.value.scope is scope
    assert "Quotas" in refused.value.hint


def test_missing_platform_image_raises_input_error(fake: ArmFake) -> None:
    with (
        opened(fake) as compute,
        pytest.raises(InputError, match=r'run\.image: image "Unknown:none:such:latest" not found'),
    ):
        compute.launch(wanted(image="Unknown:none:such:latest"))


def test_missing_managed_image_raises_input_error(fake: ArmFake) -> None:
    with opened(fake) as compute, pytest.raises(InputError, match=r'run\.image: image "nonesuch" not found'):
        compute.launch(wanted(image="nonesuch"))


@ABANDONED
def test_launch_with_lost_response_creates_one_vm(fake: ArmFake) -> None:
    with opened(fake) as compute:
        compute.launch(wanted())
        fake.server.fault = Fault(share=0.3, after_effect=1.0, status=None)
        request = wanted()
        problems = []
        for _ in range(20):
            try:
                launched = compute.launch(request)
                break
            except ProviderError as error:
                problems.append(error)
        fake.server.fault = None
        assert all(problem.transient for problem in problems)
        assert [each.instance_id for each in compute.instances("job")].count(launched.instance_id) == 1
        assert len([each for each in fake.cloud.creations if each.name == launched.instance_id]) == 1
    gc.collect()


def test_launch_deletes_failed_vm_of_an_earlier_call(fake: ArmFake) -> None:
    fake.cloud.stock_outs = [StockOut()]
    request = wanted()
    with opened(fake) as compute:
        with pytest.raises(LaunchRefusedError):
            compute.launch(request)
        fake.cloud.stock_outs = []
        assert compute.launch(request).state is InstanceState.RUNNING


@ABANDONED
def test_launch_and_terminate_succeed_despite_faults(fake: ArmFake) -> None:
    fake.server.fault = Fault(share=0.15, status=503)
    requests = [wanted() for _ in range(6)]

    with opened(fake) as compute:
        with ThreadPoolExecutor(6) as threads:
            launched = threads.map(lambda request: insistently(lambda: compute.launch(request)), requests)
            names = sorted(each.instance_id for each in launched)
        assert sorted(each.instance_id for each in insistently(lambda: compute.instances("job"))) == names
        assert len(set(names)) == 6
        insistently(lambda: compute.terminate(names))
        assert insistently(lambda: list(compute.instances("job"))) == []
        struck, fake.server.fault = fake.server.struck, None
    assert struck > 5
    eventually(lambda: remaining(fake) == ([], [], []))
    gc.collect()


# Listing


def test_listing_with_failed_page_raises(fake: ArmFake) -> None:
    with opened(fake) as compute:
        for _ in range(3):
            compute.launch(wanted())
        fake.page_size, fake.broken_pages = 2, True
        with pytest.raises(ProviderError, match="cannot list") as caught:
            compute.instances("job")
        assert caught.value.transient
        fake.broken_pages = False
        assert len(compute.instances("job")) == 3


def test_terminate_deletes_a_powered_off_vm(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted(startup_script="#!/bin/bash\nshutdown -h now\nsleep 60\n")).instance_id
        eventually(lambda: [each.state for each in compute.instances("job")] == [InstanceState.STOPPED])
        compute.terminate([name])
        assert list(compute.instances("job")) == []


def test_vm_with_identity_deletes_itself_at_max_lifetime(fake: ArmFake) -> None:
    with opened(fake, managed_identity="system", metadata_url="http://127.0.0.1:9") as compute:
        compute.launch(wanted(max_lifetime=timedelta(seconds=1)))
        eventually(lambda: list(compute.instances("job")) == [])
    assert not [each for each in remaining(fake)[1] if "disk" in each.lower()]


def test_vm_whose_script_failed_deletes_itself_without_a_controller(
    fake: ArmFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUD_TASKS_BOOT_GRACE", "1")
    with opened(fake, managed_identity="system", metadata_url="http://127.0.0.1:9") as compute:
        compute.launch(wanted(startup_script="#!/bin/bash\necho apt fails\nexit 1\n"))
        eventually(lambda: list(compute.instances("job")) == [])
    assert not [each for each in remaining(fake)[1] if "disk" in each.lower()]


def test_evicted_vm_is_deleted_with_its_resources(fake: ArmFake) -> None:
    fake.cloud.times = attrs.evolve(fake.cloud.times, preemption=0.2)
    with opened(fake) as compute:
        name = compute.launch(wanted(offer(spot=True))).instance_id
        assert fake.evict(name) == [name]
        eventually(lambda: list(compute.instances("job")) == [])
    assert not [each for each in remaining(fake)[1] if each.endswith(("-disk", "-nic"))]


# Deletion


def detached(fake: ArmFake, name: str) -> None:
    """Let the resources of a VM outlive it."""
    for part in fake.cloud.resources.values():
        if part["name"].startswith(name):
            part["properties"]["deleteOption"] = "Detach"


def test_leftovers_of_a_vm_that_ended_itself_are_deleted_with_the_job_in_a_shared_group(fake: ArmFake) -> None:
    fake.cloud.put_group("shared", {"location": "eastus"})
    with opened(fake, resource_group="shared", public_address=True) as compute:
        name = compute.launch(wanted()).instance_id
        detached(fake, name)
        fake.cloud.delete_machine(body_of(fake, name)["id"], forced=True)
        eventually(lambda: [each.state for each in compute.instances("job")] == [InstanceState.STOPPED])
    assert remaining(fake) == ([], [], ["shared"])


def test_listing_has_what_a_vm_left_as_a_stopped_instance_until_it_is_terminated(fake: ArmFake) -> None:
    request = attrs.evolve(wanted(), labels={"run": "1", "owner": "me", "expires": "1700000000"})
    with opened(fake, public_address=True) as compute:
        name = compute.launch(request).instance_id
        kept = compute.launch(wanted()).instance_id
        detached(fake, name)
        fake.cloud.delete_machine(body_of(fake, name)["id"], forced=True)
        eventually(lambda: remaining(fake)[0] == [kept])
        # Without a job, as by `cleanup`.
        with opened(fake, job_id="") as others:
            (left,) = (each for each in others.instances(None) if each.instance_id == name)
            assert (left.state, left.job_id, left.zone) == (InstanceState.STOPPED, "job", request.offer.zone)
            assert request.labels.items() <= left.labels.items()
            assert left.reason == "the VM is gone; left: address, disk, interface"
            others.terminate([name])
            assert [each.instance_id for each in others.instances(None)] == [kept]
            others.terminate([kept])
        eventually(lambda: remaining(fake) == ([], [], []))


def deleted_without_its_parts(fake: ArmFake, name: str) -> None:
    """Delete a VM as an eviction would; its resources are left."""
    detached(fake, name)
    fake.cloud.delete_machine(body_of(fake, name)["id"], forced=True)
    eventually(lambda: name not in remaining(fake)[0])


def states(compute: Compute) -> dict[str, InstanceState]:
    return {each.instance_id: each.state for each in compute.instances("job")}


@pytest.mark.parametrize("is_listed", [True, False])
def test_listing_has_what_a_vm_left_that_was_launched_after_the_first_listing(fake: ArmFake, is_listed: bool) -> None:
    with opened(fake) as compute:
        assert states(compute) == {}
        name = compute.launch(wanted()).instance_id
        if is_listed:
            assert states(compute) == {name: InstanceState.RUNNING}
        deleted_without_its_parts(fake, name)
        assert states(compute) == {name: InstanceState.STOPPED}
        compute.terminate([name])
        assert states(compute) == {}


def test_listing_has_what_a_vm_left_that_no_listing_had_yet(fake: ArmFake) -> None:
    fake.cloud.times = attrs.evolve(fake.cloud.times, listing_lag=600)
    with opened(fake) as compute:
        assert states(compute) == {}
        name = compute.launch(wanted()).instance_id
        assert [states(compute), states(compute)] == [{}, {}]
        deleted_without_its_parts(fake, name)
        assert states(compute) == {name: InstanceState.STOPPED}


def test_listing_has_what_a_vm_left_that_was_launched_during_the_listing_before(
    fake: ArmFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[str] = []

    def listed(*args: Any, **options: Any) -> list[Any]:
        found = list_vms(*args, **options)
        launched.append(compute.launch(wanted()).instance_id)
        return found

    with opened(fake) as compute:
        assert states(compute) == {}
        monkeypatch.setattr(backend, "list_vms", listed)
        assert states(compute) == {}
        monkeypatch.undo()
        deleted_without_its_parts(fake, launched[0])
        assert states(compute) == {launched[0]: InstanceState.STOPPED}


def test_listing_looks_again_for_what_a_vm_left_after_a_failed_look(fake: ArmFake) -> None:
    with opened(fake) as compute:
        assert states(compute) == {}
        name, kept = (compute.launch(wanted()).instance_id for _ in range(2))
        assert states(compute).keys() == {name, kept}
        deleted_without_its_parts(fake, name)
        # One VM, and two interfaces.
        fake.page_size, fake.broken_pages = 1, True
        for _ in range(2):
            with pytest.raises(ProviderError, match="cannot list networkInterfaces"):
                compute.instances("job")
        fake.broken_pages = False
        assert states(compute) == {name: InstanceState.STOPPED, kept: InstanceState.RUNNING}


def test_listing_has_what_a_refused_launch_left(fake: ArmFake, monkeypatch: pytest.MonkeyPatch) -> None:
    def discarded(arm: Arm, vm_id: str) -> None:
        deleted_without_its_parts(fake, vm_id.rpartition("/")[2])
        raise ProviderError("cannot delete the disk", transient=True)

    def refused(arm: Arm, operation: Operation, *, timeout: timedelta) -> None:
        wait(arm, operation, timeout=timeout)
        raise LaunchRefusedError("no capacity", scope=RefusalScope.ZONE, retry_after=timedelta(minutes=1), reason="x")

    with opened(fake) as compute:
        kept, wait = compute.launch(wanted()).instance_id, Arm.wait
        assert states(compute) == {kept: InstanceState.RUNNING}
        monkeypatch.setattr(backend, "delete_vm", discarded)
        monkeypatch.setattr(Arm, "wait", refused)
        with pytest.raises(LaunchRefusedError):
            compute.launch(wanted())
        monkeypatch.undo()
        found = states(compute)
        assert (found.pop(kept), list(found.values())) == (InstanceState.RUNNING, [InstanceState.STOPPED])


def test_listing_looks_for_leftovers_only_after_a_vm_has_disappeared(fake: ArmFake) -> None:
    def looks() -> bool:
        before = len(fake.server.calls)
        compute.instances("job")
        return any(path.endswith("/disks") for _, path in fake.server.calls[before:])

    with opened(fake) as compute:
        name = compute.launch(wanted()).instance_id
        assert [looks(), looks()] == [True, False]
        compute.launch(wanted())
        assert not looks()
        detached(fake, name)
        fake.cloud.delete_machine(body_of(fake, name)["id"], forced=True)
        eventually(lambda: len(remaining(fake)[0]) == 1)
        assert [looks(), looks()] == [True, True]
        compute.terminate([name])
        assert [looks(), looks()] == [True, False]


def test_terminate_of_many_vms_lists_instead_of_polling_each(fake: ArmFake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminate, "_INTERVAL", 0.001)
    fake.cloud.times = attrs.evolve(fake.cloud.times, delete=0.3)
    with opened(fake) as compute, ThreadPoolExecutor(8) as threads:
        names = [each.instance_id for each in threads.map(compute.launch, [wanted() for _ in range(24)])]
        before = len(fake.server.calls)
        compute.terminate(names)
        calls = fake.server.calls[before:]
    assert remaining(fake)[0] == []
    assert sum(method == "DELETE" for method, _ in calls) == len(names)
    assert [path for _, path in calls if "/operations/" in path] == []


@pytest.mark.parametrize("poll", [Answer(status=404), Answer(body={"status": "Succeeded"}), Answer(body={})])
def test_delete_vm_ends_when_no_listing_has_it_whatever_its_operation_says(poll: Answer) -> None:
    server = FakeServer()
    vm = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v"
    listed = {
        "id": vm,
        "name": "v",
        "tags": {"cloud-tasks-job": "job"},
        "properties": {"provisioningState": "Updating"},
    }
    listings = iter([[listed], [listed], []])
    begun = Answer(status=202, headers={"Location": f"{server.url}/operation"})
    server.route("DELETE", vm, lambda request: begun)
    server.route("GET", "/operation", lambda request: poll)
    server.route("GET", ".*/virtualMachines", lambda request: Answer(body={"value": next(listings)}))
    server.route("GET", ".*", lambda request: Answer(body={"value": []}))
    settings = AzureSettings(subscription_id=SUBSCRIPTION, management_endpoint=server.url, operation_poll_seconds=0.02)
    with server.serving(), closing(Arm(settings)) as arm:
        terminate.delete_vm(arm, vm)
    assert list(listings) == []


def test_terminate_deletes_a_vm_that_no_listing_has_yet(fake: ArmFake) -> None:
    fake.cloud.times = attrs.evolve(fake.cloud.times, listing_lag=600)
    with opened(fake) as compute:
        name = compute.launch(wanted()).instance_id
        assert list(compute.instances("job")) == []
        compute.terminate([name])
        assert remaining(fake)[0] == []
        assert not [each for each in remaining(fake)[1] if each.partition("/")[2].startswith(name)]
        compute.terminate([name])


def test_group_with_an_extension_of_a_policy_is_deleted(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted()).instance_id
        extension = f"{body_of(fake, name)['id']}/extensions/MSProtection"
        fake.cloud.put(extension, "Microsoft.Compute/virtualMachines/extensions", {"location": "eastus"})
        compute.terminate([name])
    eventually(lambda: remaining(fake)[2] == [])


def test_terminate_deletes_resources_left_by_the_vm(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted()).instance_id
        for part in fake.cloud.resources.values():
            if part["name"].startswith(name):
                part["properties"]["deleteOption"] = "Detach"
        compute.terminate([name])
        assert not [each for each in remaining(fake)[1] if each.partition("/")[2].startswith(name)]


def test_terminate_deletes_the_others_and_reports_the_failure(fake: ArmFake) -> None:
    with opened(fake) as compute:
        names = [compute.launch(wanted()).instance_id for _ in range(3)]
        fake.cloud.undeletable = {names[1]}
        with pytest.raises(ProviderError, match=f"cannot delete {names[1]}"):
            compute.terminate(names)
        assert remaining(fake)[0] == [names[1]]
        fake.cloud.undeletable = set()
        compute.terminate(names)
        assert remaining(fake)[0] == []


def test_terminate_ignores_unmanaged_vms(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted()).instance_id
        for each in (body_of(fake, name), *fake.cloud.resources.values()):
            each["tags"] = {"team": "others"}
        compute.terminate([name])
        assert remaining(fake)[0] == [name]


def test_terminate_deletes_concurrently(fake: ArmFake) -> None:
    with opened(fake) as compute:
        with ThreadPoolExecutor(6) as threads:
            launched = threads.map(compute.launch, [wanted() for _ in range(6)])
            names = [each.instance_id for each in launched]
        fake.cloud.times = attrs.evolve(fake.cloud.times, delete=0.4)
        compute.terminate(names)
    ends = [
        each for each in fake.cloud.operations.values() if each.kind == "delete" and "virtualmachines" in each.target
    ]
    # An operation ends some time after the listing shows its effect.
    assert max(each.began for each in ends) < min(each.ended or math.inf for each in ends)


# Sizes


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


# Images, plans and tags


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


def test_configured_tags_are_on_group_network_and_vm_but_are_no_labels(fake: ArmFake) -> None:
    with opened(fake, tags={"costcenter": "42"}) as compute:
        request = wanted()
        compute.launch(request)
        (found,) = compute.instances("job")
        tagged = [*fake.cloud.groups.values(), *fake.cloud.find(lambda each: True)]
        assert {each["tags"].get("costcenter") for each in tagged} == {"42"}
    assert "costcenter" not in found.labels


def test_network_uses_the_configured_nat_gateway(fake: ArmFake) -> None:
    gateway = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.Network/natGateways/n"
    with opened(fake, nat_gateway=gateway) as compute:
        compute.launch(wanted())
        (network,) = fake.cloud.find(lambda each: each["type"].endswith("virtualNetworks"))
        properties = network["properties"]["subnets"][0]["properties"]
    assert (properties["natGateway"], properties["defaultOutboundAccess"]) == ({"id": gateway}, False)


@pytest.mark.parametrize("jobs", [("a.b", "a-b"), ("A", "a"), ("x" * 70 + "1", "x" * 70 + "2")])
def test_names_of_two_jobs_differ(jobs: tuple[str, str]) -> None:
    groups, networks = {group_name(job) for job in jobs}, {network_name(job, "eastus") for job in jobs}
    assert (len(groups), len(networks)) == (2, 2)
    assert all(re.fullmatch(r"[\w.()-]{1,90}(?<!\.)", each) for each in groups)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,58}[a-z0-9]", each) for each in networks)


# Requests


def test_requests_name_the_api_version_they_were_written_for(fake: ArmFake, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, set[str]] = {}
    answer = fake._answer

    def recorded(handler: Any, request: Any) -> Answer:
        provider = request.path.rpartition("/providers/")[2].split("/")[0]
        found.setdefault(provider, set()).add(request.query["api-version"])
        return answer(handler, request)

    monkeypatch.setattr(fake, "_answer", recorded)
    fake.server._routes.clear()
    fake._routes()
    with opened(fake, public_address=True) as compute:
        compute.regions(), compute.images(), compute.instance_types(), compute.headroom(offer())
        urn = "Canonical:0001-com-ubuntu-server-jammy:22_04-lts-gen2:latest"
        name = compute.launch(wanted(image=urn)).instance_id
        compute.instances("job"), compute.console_log(name)
        detached(fake, name)
        compute.terminate([name])
    # Compute is also the provider of the polled operations; its description is of Resource Manager.
    assert found["Microsoft.Compute"] == {"2021-04-01", "2021-07-01", "2024-03-02", "2024-07-01"}
    assert found["Microsoft.Network"] == {"2024-05-01"}


@pytest.mark.parametrize("page", ["<html>sign in</html>", {}, []])
def test_listing_that_is_not_azures_is_no_empty_one(page: Any) -> None:
    server = FakeServer()
    server.route("*", ".*", lambda request: Answer(body=page))
    with (
        server.serving(),
        closing(Arm(AzureSettings(subscription_id=SUBSCRIPTION, management_endpoint=server.url))) as arm,
    ):
        listings: tuple[Callable[[], object], ...] = (
            lambda: list_vms(arm, None),
            lambda: vm_statuses(arm),
            lambda: list_parts(arm),
            lambda: list_skus(arm, "eastus"),
            lambda: list_usages(arm, "eastus"),
            lambda: ImageResolver(arm).list(),
            lambda: arm.entries("/resourceGroups/jobs/resources", "2021-04-01"),
        )
        for listed in listings:
            with pytest.raises(ProviderError, match="invalid response from Azure") as caught:
                listed()
            assert caught.value.transient


@pytest.mark.parametrize("answer", ["<html>sign in</html>", {}, []])
def test_vm_that_is_not_azures_is_no_missing_one(answer: Any) -> None:
    server = FakeServer()
    server.route("*", ".*", lambda request: Answer(body=answer))
    settings = AzureSettings(subscription_id=SUBSCRIPTION, management_endpoint=server.url)
    with server.serving(), closing(Arm(settings)) as arm:
        with pytest.raises(ProviderError, match="invalid response from Azure") as caught:
            get_vm(arm, "g", "v")
        assert caught.value.transient


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


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "TooManyRequests"), (409, "SkuNotAvailable"), (409, "MissingSubscriptionRegistration")],
)
def test_refused_request_is_not_repeated_whatever_azure_asks_to_wait(status: int, code: str) -> None:
    server = FakeServer()
    answer = Answer(status=status, body={"error": {"code": code, "message": "wait"}}, headers={"Retry-After": "1200"})
    server.route("*", ".*", lambda request: answer)
    with server.serving():
        backend = Registry(only=["azure"]).compute("azure")
        settings = AzureSettings(subscription_id=SUBSCRIPTION, management_endpoint=server.url, ssh_public_key=KEY)
        with backend.open(settings, ComputeContext(job_id="", region="eastus")) as compute:
            with pytest.raises(ProviderError, match=code):
                compute.instances("job")
            assert len(server.calls) == 1
            with pytest.raises(LaunchRefusedError):
                compute.launch(wanted())
            assert len(server.calls) == 2


@pytest.mark.parametrize(("header", "pause"), [({"Retry-After": "25"}, 25), ({"Retry-After": "900"}, 30), ({}, 3)])
def test_throttled_poll_is_repeated_when_azure_asks_for_it(header: dict[str, str], pause: int) -> None:
    server = FakeServer()
    polls = iter(
        [Answer(status=429, headers=header), Answer(status=202), Answer(status=200, body={"status": "Succeeded"})]
    )
    location = {"Location": f"{server.url}/operation"}
    server.route("PUT", ".*", lambda request: Answer(status=202, headers=location))
    server.route("GET", "/operation", lambda request: attrs.evolve(next(polls), headers={**header, **location}))
    settings = AzureSettings(subscription_id=SUBSCRIPTION, management_endpoint=server.url)
    with server.serving(), closing(Arm(settings)) as arm:
        operation = arm.operation(arm.put("/resourceGroups/g", "2021-04-01", {}))
        operation.update_status()
        assert (operation.finished(), operation.pause) == (False, pause)
        operation.update_status()
        operation.update_status()
        assert operation.finished()


def test_throttled_poll_of_a_creation_does_not_end_it(fake: ArmFake) -> None:
    fake.cloud.times = attrs.evolve(fake.cloud.times, provision=0.2)
    polls = itertools.count()
    answer = fake._operation

    def throttled(request: Any) -> Any:
        if next(polls) < 3:
            return Answer(status=429, body={"error": {"code": "TooManyRequests", "message": "wait"}})
        return answer(request)

    fake.server._routes = [
        (method, pattern, throttled if "operations/" in pattern.pattern else handler)
        for method, pattern, handler in fake.server._routes
    ]
    with opened(fake) as compute:
        assert compute.launch(wanted()).state is InstanceState.RUNNING


# Catalog, quotas and regions


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


def test_operation_polls_respect_retry_after(fake: ArmFake) -> None:
    fake.cloud.times = attrs.evolve(fake.cloud.times, provision=0.5)
    fake.retry_after = "1"
    with opened(fake) as compute:
        compute.launch(wanted())
    polls = [path for _, path in fake.server.calls if re.search(r"/operations/", path)]
    assert len(polls) <= 6


def test_console_log_of_unknown_vm_is_empty_and_errors_hide_the_signature(fake: ArmFake) -> None:
    with opened(fake) as compute:
        assert compute.console_log("unknown") == ""
        name = compute.launch(wanted()).instance_id
        eventually(lambda: "started" in compute.console_log(name))
        fake.cloud.console = lambda name: 1 / 0  # type: ignore[method-assign,assignment,return-value]
        with pytest.raises(ProviderError) as caught:
            compute.console_log(name)
    assert "very-secret" not in f"{caught.value}{caught.value.__cause__}"


def test_long_script_is_compressed_and_runs(fake: ArmFake) -> None:
    script = "#!/bin/bash\n" + "# a repeated comment\n" * 4000 + "echo arrived\n"
    with opened(fake) as compute:
        name = compute.launch(wanted(startup_script=script)).instance_id
        eventually(lambda: "arrived" in compute.console_log(name))
    sent = base64.b64decode(body_of(fake, name)["properties"]["osProfile"]["customData"])
    assert len(sent) < 65_535 < len(script)


def test_listing_returns_the_provisioning_model_and_disk_type(fake: ArmFake) -> None:
    with opened(fake) as compute:
        compute.launch(wanted(offer(spot=True)))
        (found,) = compute.instances("job")
    assert (found.provisioning_model, found.boot_disk_type) == (ProvisioningModel.SPOT, "StandardSSD_LRS")
