"""What `cloud-tasks doctor` learns of a subscription, a storage account and the prices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from arm_account import Account
from arm_desk import settings_for
from arm_fake import SUBSCRIPTION, ArmFake
from azurite import Azurite, azurite_server
from cloud_wire import Answer, Fault, Request, Wire
from retail_fake import RetailFake
from storage_faults import StorageFaults

from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.registry import Registry
from cloud_tasks_azure import doctor as compute_doctor
from cloud_tasks_azure.compute import clients
from cloud_tasks_azure.credentials import client_options
from cloud_tasks_azure.settings import AzureSettings

REGISTRY = Registry(only=["azure"])
CONTEXT = CheckContext(region="eastus")
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/ours"
IDENTITY = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/cloud-tasks-worker"
SUBNET = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/net/subnets/workers"


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[ArmFake]:
    with ArmFake(tmp_path / "arm") as fake:
        yield fake


@pytest.fixture
def account(arm: ArmFake) -> Account:
    arm.account.resources |= {IDENTITY, SUBNET}
    return arm.account


@pytest.fixture(scope="module")
def storage() -> Iterator[Azurite]:
    with azurite_server() as server:
        yield server


def findings(axis: str, settings: AzureSettings, context: CheckContext = CONTEXT) -> dict[str, Finding]:
    check = getattr(REGISTRY, axis)("azure").check
    assert check is not None
    return {each.subject: each for each in check(settings, context)}


def look(arm: ArmFake, context: CheckContext = CONTEXT, **settings: Any) -> dict[str, Finding]:
    return findings("compute", settings_for(arm, **{"managed_identity": IDENTITY, **settings}), context)


def wrong(found: dict[str, Finding]) -> dict[str, Finding]:
    return {subject: each for subject, each in found.items() if not each.ok}


# Compute


def test_a_subscription_that_has_everything_passes_every_look_and_is_not_changed(
    arm: ArmFake, account: Account
) -> None:
    arm.cloud.put_group("ours", {"location": "eastus"})
    found = look(arm, resource_group="ours", subnet=SUBNET)
    assert wrong(found) == {}
    assert list(found) == [
        "credentials",
        "Microsoft.Compute",
        "Microsoft.Network",
        "Microsoft.Storage",
        "region",
        "machine sizes",
        "on-demand quota",
        "spot quota",
        "machines",
        "permissions",
        "managed identity",
        "resource group",
        "subnet",
    ]
    assert {method for method, _ in arm.wire.calls} <= {"GET", "HEAD"}
    assert "0 of 1000 cores" in found["on-demand quota"].message


def test_without_a_subscription_nothing_is_asked(arm: ArmFake) -> None:
    found = findings("compute", attrs.evolve(settings_for(arm), subscription_id=None))
    assert list(wrong(found)) == list(found) == ["subscription"]
    assert "az account list" in found["subscription"].remedy
    assert arm.wire.calls == []


def test_a_subscription_that_is_not_ours_ends_the_looking(arm: ArmFake) -> None:
    elsewhere = attrs.evolve(settings_for(arm), subscription_id="11111111-0000-0000-0000-000000000000")
    found = findings("compute", elsewhere)
    assert list(found) == ["subscription"]
    assert "az account list" in found["subscription"].remedy


def refusing(status: int, code: str) -> Wire:
    wire = Wire()
    body = {"error": {"code": code, "message": "The client does not have authorization over the scope."}}
    wire.route("*", ".*", lambda request: Answer(status=status, body=body))
    return wire


def at(url: str, **settings: Any) -> AzureSettings:
    return AzureSettings(subscription_id=SUBSCRIPTION, management_endpoint=url, **settings)


def test_credentials_that_are_not_accepted_end_the_looking_and_are_not_told() -> None:
    with refusing(401, "InvalidAuthenticationToken").serving() as wire:
        found = findings("compute", at(wire.url, client_id="app", tenant_id="t", client_secret="do-not-tell"))
    assert list(found) == ["credentials"]
    assert "az login" in found["credentials"].remedy
    assert "do-not-tell" not in repr(found)


def test_half_an_application_is_a_finding(arm: ArmFake) -> None:
    found = findings(
        "compute", AzureSettings(subscription_id=SUBSCRIPTION, client_secret="do-not-tell", client_id="app")
    )
    assert not found["subscription"].ok
    assert "tenant_id" in found["subscription"].message
    assert "do-not-tell" not in repr(found)


def test_a_subscription_that_may_not_be_read_names_the_role() -> None:
    with refusing(403, "AuthorizationFailed").serving() as wire:
        found = findings("compute", at(wire.url))
    assert list(found) == ["subscription"]
    assert "--policy" in found["subscription"].remedy


def test_a_provider_that_is_not_registered_is_found_with_its_command(arm: ArmFake, account: Account) -> None:
    account.registered.remove("Microsoft.Network")
    found = wrong(look(arm))
    assert list(found) == ["Microsoft.Network"]
    assert found["Microsoft.Network"].remedy == (
        f"az provider register --namespace Microsoft.Network --subscription {SUBSCRIPTION}"
    )


@pytest.mark.parametrize(("region", "message"), [(None, "none is given"), ("moon", '"moon"')])
def test_a_region_that_is_none_is_a_finding_and_nothing_of_it_is_asked(
    arm: ArmFake, account: Account, region: str | None, message: str
) -> None:
    found = look(arm, CheckContext(region=region))
    assert list(wrong(found)) == ["region"]
    assert message in found["region"].message
    assert not {"machine sizes", "on-demand quota", "spot quota"} & set(found)


def test_a_zone_tells_the_region(arm: ArmFake, account: Account) -> None:
    assert "eastus has 3 zones" in look(arm, CheckContext(zone="eastus-2"))["region"].message


def test_a_quota_of_nothing_is_a_finding_with_the_command_that_asks_for_more(arm: ArmFake, account: Account) -> None:
    arm.cloud.quotas["eastus"]["lowPriorityCores"] = 0
    found = wrong(look(arm))
    assert list(found) == ["spot quota"]
    assert found["spot quota"].remedy.startswith("az quota update --resource-name lowPriorityCores")


def test_a_right_that_is_missing_is_named(arm: ArmFake, account: Account) -> None:
    account.permissions = [{"actions": ["*/read"]}, {"actions": ["Microsoft.Network/*", "Microsoft.Resources/*"]}]
    found = wrong(look(arm, managed_identity="system"))
    assert list(found) == ["permissions"]
    assert "Microsoft.Compute/virtualMachines/delete" in found["permissions"].message
    assert "Microsoft.Network" not in found["permissions"].message
    assert "az role assignment create" in found["permissions"].remedy
    account.permissions.append({"actions": ["Microsoft.Compute/*"]})
    assert wrong(look(arm, managed_identity="system")) == {}


def test_rights_in_a_group_are_asked_for_there(arm: ArmFake, account: Account) -> None:
    arm.cloud.put_group("ours", {"location": "eastus"})
    look(arm, resource_group="ours")
    asked = [path for _, path in arm.wire.calls if path.endswith("Authorization/permissions")]
    assert {path.partition("/providers/")[0] for path in asked} == {
        f"/subscriptions/{SUBSCRIPTION}/resourcegroups/ours"
    }


def test_rights_that_may_not_be_listed_are_no_proof_of_missing_ones(arm: ArmFake, account: Account) -> None:
    account.permissions = None
    found = look(arm)
    assert wrong(found) == {}
    assert "cannot be told" in found["permissions"].message


def test_machines_without_an_identity_are_a_finding(arm: ArmFake, account: Account) -> None:
    found = wrong(look(arm, managed_identity=None))
    assert list(found) == ["managed identity"]
    assert "az identity create" in found["managed identity"].remedy


def test_what_the_settings_name_and_is_not_there_is_found_with_the_command_that_makes_it(
    arm: ArmFake, account: Account
) -> None:
    account.resources.clear()
    found = wrong(look(arm, resource_group="ours", subnet=SUBNET))
    assert {subject: each.remedy.partition(" --")[0] for subject, each in found.items()} == {
        "managed identity": "az identity create",
        "resource group": "az group create",
        "subnet": "az network vnet subnet create",
    }
    assert "--vnet-name net --name workers" in found["subnet"].remedy


def test_an_api_that_breaks_in_the_midst_is_told_in_findings(
    arm: ArmFake, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_RETRIES", 0)

    def check() -> Iterator[Finding]:
        for finding in compute_doctor.check_compute(settings_for(arm), CONTEXT):
            arm.wire.fault = Fault(share=1.0, status=500)
            yield finding

    found = {each.subject: each for each in check()}
    assert found["credentials"].ok
    assert set(wrong(found)) == {
        "Microsoft.Network",
        "Microsoft.Storage",
        "machine sizes",
        "quotas",
        "machines",
        "managed identity",
    }
    assert all(each.remedy for each in wrong(found).values())


def test_a_plain_address_is_never_sent_a_token() -> None:
    assert "authentication_policy" in client_options("http://127.0.0.1:1")


# Queues


def test_an_account_that_can_be_used_passes_and_nothing_is_made(storage: Azurite) -> None:
    found = findings("queue", AzureSettings(connection_string=storage.connection_string))
    assert wrong(found) == {}
    assert list(found) == ["storage account", "container for large messages", "workers' access"]
    assert "will be made" in found["container for large messages"].message
    assert (storage.queues(), storage.blobs()) == ([], [])


def test_workers_that_are_not_told_the_account_are_warned_of(storage: Azurite) -> None:
    told = findings("queue", AzureSettings(connection_string=storage.connection_string))["workers' access"]
    assert told.ok
    assert "azure.storage_account" in told.remedy
    both = AzureSettings(
        connection_string=storage.connection_string, storage_account="account", managed_identity="system"
    )
    assert findings("queue", both)["workers' access"].remedy == ""


def test_an_account_without_a_name_is_a_finding() -> None:
    found = findings("queue", AzureSettings())
    assert "AZURE_STORAGE_CONNECTION_STRING" in wrong(found)["storage account"].remedy


def test_a_key_that_is_refused_is_a_finding_that_does_not_tell_it(storage: Azurite) -> None:
    settings = AzureSettings(connection_string=storage.connection_string.replace(storage.key, "d3Jvbmcta2V5"))
    found = findings("queue", settings)
    assert not found["storage account"].ok
    assert found["storage account"].remedy
    assert "d3Jvbmcta2V5" not in repr(found)


def test_a_role_that_is_missing_names_the_command(storage: Azurite) -> None:
    faults = StorageFaults(storage.queue_endpoint)
    faults.fail("GET", "/standin/", "AuthorizationPermissionMismatch", status=403, times=9)
    text = storage.connection_string.replace(storage.queue_endpoint, faults.endpoint)
    with faults.wire.serving():
        found = findings("queue", AzureSettings(connection_string=text))["storage account"]
    assert not found.ok
    assert "--policy" in found.remedy


def test_a_connection_string_that_is_none_is_a_finding_that_does_not_show_it() -> None:
    found = findings("queue", AzureSettings(connection_string="do-not-tell"))
    assert not found["storage account"].ok
    assert "do-not-tell" not in repr(found)


def test_a_namespace_that_is_not_named_is_a_finding() -> None:
    found = findings("queue", AzureSettings(queue="servicebus"))
    assert "az servicebus namespace list" in wrong(found)["Service Bus"].remedy
    assert "AZURE_SERVICEBUS_CONNECTION_STRING" in found["workers' access"].remedy


# Prices


def test_prices_that_can_be_had_pass() -> None:
    with RetailFake(page_size=1) as prices:
        found = findings("pricing", AzureSettings(prices_endpoint=prices.url))
        assert wrong(found) == {}
        assert len(prices.wire.calls) == 1


def test_a_region_without_prices_is_a_finding() -> None:
    with RetailFake() as prices:
        settings = AzureSettings(prices_endpoint=prices.url)
        assert "list-regions" in findings("pricing", settings, CheckContext(region="moon"))["Retail Prices API"].remedy
    assert not findings("pricing", settings, CheckContext())["region"].ok


def test_prices_that_cannot_be_had_are_a_finding() -> None:
    def refuse(request: Request) -> Answer:
        return Answer(status=403, body="a proxy says no")

    wire = Wire()
    wire.route("GET", ".*", refuse)
    with wire.serving():
        found = findings("pricing", AzureSettings(prices_endpoint=wire.url))["Retail Prices API"]
    assert not found.ok
    assert found.remedy.startswith("let this machine reach it: curl")
