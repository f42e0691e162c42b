"""The Resource Manager fake: behaviour that tests of the plugin rely on."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import attrs
import pytest
from arm_fake import ArmFake
from arm_models import problems_of
from arm_process import ArmProcess
from arm_records import ArmError, StockOut
from arm_requests import offer, opened, remaining, settings_for, unmanaged_vm_body, wanted

from cloud_tasks.plugin import ComputeContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import eventually
from cloud_tasks_azure.settings import AzureSettings


@pytest.fixture
def vm(fake: ArmFake) -> str:
    """The id of a VM to create, in a group with a network."""
    group = f"/subscriptions/{fake.cloud.subscription}/resourceGroups/g"
    fake.cloud.put_group("g", {"location": "eastus"})
    network = f"{group}/providers/Microsoft.Network/virtualNetworks/net"
    fake.cloud.put(network, "Microsoft.Network/virtualNetworks", {"properties": {"subnets": [{"name": "s"}]}})
    return f"{group}/providers/Microsoft.Compute/virtualMachines/m"


def body_for(vm: str) -> dict[str, Any]:
    group = vm.partition("/providers/")[0]
    return unmanaged_vm_body(f"{group}/providers/Microsoft.Network/virtualNetworks/net/subnets/s")


def test_arm_create_with_taken_name_changes_nothing(fake: ArmFake, vm: str) -> None:
    created, _ = fake.cloud.create(vm, body_for(vm), must_be_new=True)
    with pytest.raises(ArmError) as refused:
        fake.cloud.create(vm, body_for(vm), must_be_new=True)
    assert refused.value.status == 412
    assert list(fake.cloud.machines.values()) == [created]
    assert len(fake.cloud.creations) == 1


def test_arm_delete_keeps_resources_without_delete_option(fake: ArmFake, vm: str) -> None:
    fake.cloud.create(vm, body_for(vm), must_be_new=True)
    eventually(lambda: fake.state()["instances"][0]["status"] == "running")
    fake.cloud.delete_machine(vm, forced=True)
    eventually(lambda: remaining(fake)[0] == [])
    assert remaining(fake)[1] == ["disks/theirs", "networkInterfaces/theirs", "virtualNetworks/net"]


def test_arm_deleted_vm_has_no_processes(fake: ArmFake) -> None:
    with opened(fake) as compute:
        launched = compute.launch(wanted(startup_script="#!/bin/bash\nsetsid sleep 600 &\nsleep 600\n"))
        guest = next(iter(fake.cloud.machines.values())).guest
        assert guest is not None
        eventually(lambda: len(guest.processes()) >= 2)
        compute.terminate([launched.instance_id])
        assert guest.processes() == set()


def test_arm_failed_creation_leaves_a_failed_vm(fake: ArmFake, vm: str) -> None:
    fake.cloud.stock_outs = [StockOut()]
    created, operation = fake.cloud.create(vm, body_for(vm), must_be_new=True)
    eventually(lambda: operation.problem)
    assert created.state == "Failed"
    fake.cloud.delete_machine(vm, forced=True)
    eventually(lambda: remaining(fake)[0] == [])


def test_arm_resource_in_use_cannot_be_deleted(fake: ArmFake, vm: str) -> None:
    fake.cloud.create(vm, body_for(vm), must_be_new=True)
    group = vm.partition("/providers/")[0]
    for part in ("Microsoft.Compute/disks/theirs", "Microsoft.Network/virtualNetworks/net"):
        with pytest.raises(ArmError):
            fake.cloud.delete(f"{group}/providers/{part}")


def test_arm_group_being_deleted_rejects_creations(fake: ArmFake, vm: str) -> None:
    fake.cloud.times = attrs.evolve(fake.cloud.times, group=60)
    fake.cloud.delete_group("g")
    with pytest.raises(ArmError) as refused:
        fake.cloud.create(vm, body_for(vm), must_be_new=True)
    assert refused.value.code == "ResourceGroupBeingDeleted"


def test_arm_approved_eviction_ends_the_notice(fake: ArmFake) -> None:
    fake.cloud.times = attrs.evolve(fake.cloud.times, preemption=600)
    script = """#!/bin/bash
exec python3 - <<EOF
import json, os, time, urllib.request as u
url = os.environ["CLOUD_TASKS_AZURE_METADATA_URL"] + "/metadata/scheduledevents?api-version=2020-07-01"
while True:
    events = json.load(u.urlopen(u.Request(url, headers={"Metadata": "true"})))["Events"]
    if events:
        body = json.dumps({"StartRequests": [{"EventId": events[0]["EventId"]}]}).encode()
        u.urlopen(u.Request(url, data=body, headers={"Metadata": "true"}))
        time.sleep(600)
    time.sleep(0.05)
EOF
"""
    with opened(fake) as compute:
        name = compute.launch(wanted(offer(spot=True), startup_script=script)).instance_id
        fake.evict(name)
        eventually(lambda: list(compute.instances("job")) == [])
    assert fake.state()["approved"] == [name]


def test_arm_rejects_wrong_subscription_and_missing_api_version(fake: ArmFake) -> None:
    good = f"{fake.url}/subscriptions/{fake.cloud.subscription}/resources"
    for address in (f"{fake.url}/subscriptions/other/resources?api-version=1", good):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(address, timeout=10).close()
    with urllib.request.urlopen(f"{good}?api-version=1", timeout=10) as answer:
        assert json.load(answer) == {"value": []}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"priority": "spot"}, "'spot' is not one of Regular, Low, Spot, SpotPlus"),
        ({"hardwareProfile": {"vmsize": "Standard_D2s_v5"}}, "hardwareProfile.vmsize: unknown field"),
        ({"storageProfile": {"osDisk": {"diskSizeGB": "30"}}}, "diskSizeGB: '30' is no int"),
        ({"networkProfile": {"networkInterfaceConfigurations": {}}}, "networkInterfaceConfigurations: expected a list"),
        ({"billingProfile": {"maxPrice": True}}, "maxPrice: True is no float"),
        ({"osProfile": "text"}, "osProfile: expected an object"),
    ],
)
def test_arm_refuses_bodies_that_do_not_fit_the_models(
    fake: ArmFake, vm: str, change: dict[str, Any], problem: str
) -> None:
    body = body_for(vm)
    assert problems_of("Microsoft.Compute/virtualMachines", body) == []
    wrong = {**body, "properties": {**body["properties"], **change}}
    request = urllib.request.Request(
        f"{fake.url}{vm}?api-version=2024-07-01", data=json.dumps(wrong).encode(), method="PUT"
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    error = json.loads(refused.value.read())["error"]
    assert error["code"] == "InvalidRequestContent"
    assert problem in error["message"]


def test_arm_listing_by_tag_has_no_tags(fake: ArmFake, vm: str) -> None:
    fake.cloud.create(vm, body_for(vm), must_be_new=True)
    for query, has_tags in (("", True), ("&$filter=tagName%20eq%20'team'", False)):
        url = f"{fake.url}/subscriptions/{fake.cloud.subscription}/resources?api-version=2021-04-01{query}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = json.load(answer)["value"]
        assert any(each["name"] == "m" for each in found)
        assert any("tags" in each for each in found) is has_tags


def test_arm_process_is_controllable_and_ends(tmp_path: Path) -> None:
    with ArmProcess(tmp_path / "arm") as process:
        chosen: AzureSettings = settings_for(process)
        backend = Registry(only=["azure"]).compute("azure")
        with backend.open(chosen, ComputeContext(job_id="job", region="eastus")) as compute:
            process.stock_out({"size": "Standard_D2as_v5"})
            launched = compute.launch(wanted(offer(spot=True)))
            process.times(preemption=0.1)
            assert process.evict(oldest=1) == [launched.instance_id]
            eventually(lambda: list(compute.instances("job")) == [])
            process.fault(share=1.0, status=503)
            assert process.state()["evicted"] == [launched.instance_id]
            process.fault()
