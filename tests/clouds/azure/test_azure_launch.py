"""Launches of virtual machines: what a new one has, refusals, lost responses."""

from __future__ import annotations

import base64
import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
from arm_fake import ArmFake
from arm_records import StockOut
from arm_requests import body_of, offer, opened, remaining, wanted
from cloud_requests import insistently
from fake_server import Fault

from cloud_tasks.errors import LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import InstanceState, Money
from cloud_tasks.testing import eventually

ABANDONED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The SDK leaves the socket of an abandoned response to the garbage collector."""


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


def test_long_script_is_compressed_and_runs(fake: ArmFake) -> None:
    script = "#!/bin/bash\n" + "# a repeated comment\n" * 4000 + "echo arrived\n"
    with opened(fake) as compute:
        name = compute.launch(wanted(startup_script=script)).instance_id
        eventually(lambda: "arrived" in compute.console_log(name))
    sent = base64.b64decode(body_of(fake, name)["properties"]["osProfile"]["customData"])
    assert len(sent) < 65_535 < len(script)
