"""Doctor checks of a subscription, a storage account and the prices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from arm_account import Account
from arm_fake import SUBSCRIPTION, ArmFake
from arm_requests import opened, settings_for, wanted
from azurite import Azurite
from fake_server import Answer, FakeServer, Fault, Request
from retail_fake import RetailFake
from storage_faults import StorageFaults

from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.registry import Registry
from cloud_tasks_azure import doctor_compute
from cloud_tasks_azure.compute import arm as resource_manager
from cloud_tasks_azure.servicebus.settings import ServiceBusSettings
from cloud_tasks_azure.settings import AzureSettings

REGISTRY = Registry(only=["azure"])
CONTEXT = CheckContext(region="eastus")
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/jobs"
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


def findings(kind: str, settings: AzureSettings, context: CheckContext = CONTEXT) -> dict[str, Finding]:
    check = getattr(REGISTRY, kind)("azure").check
    assert check is not None
    return {each.subject: each for each in check(settings, context)}


def check(arm: ArmFake, context: CheckContext = CONTEXT, **settings: Any) -> dict[str, Finding]:
    return findings("compute", settings_for(arm, **{"managed_identity": IDENTITY, **settings}), context)


def failed(found: dict[str, Finding]) -> dict[str, Finding]:
    return {subject: each for subject, each in found.items() if not each.ok}


# Compute


def test_check_looks_at_the_staging(arm: ArmFake) -> None:
    assert "staging" not in check(arm)
    found = check(arm, attrs.evolve(CONTEXT, staging="az://staging/jobs"), storage_account=None)["staging"]
    assert (found.ok, found.prevents_run, found.message) == (False, True, "no storage account is configured")


def test_doctor_passes_a_complete_subscription_without_changes(arm: ArmFake, account: Account) -> None:
    arm.cloud.put_group("jobs", {"location": "eastus"})
    found = check(arm, resource_group="jobs", subnet=SUBNET)
    assert failed(found) == {}
    assert list(found) == [
        "credentials",
        "Microsoft.Compute",
        "Microsoft.Network",
        "Microsoft.Storage",
        "region",
        "VM sizes",
        "quotas",
        "on-demand quota",
        "spot quota",
        "instances",
        "leftovers",
        "permissions",
        "managed identity",
        "worker's role",
        "resource group",
        "subnet",
    ]
    assert {method for method, _ in arm.server.calls} <= {"GET", "HEAD"}
    assert "0 of 1000 cores" in found["on-demand quota"].message


def test_doctor_without_subscription_sends_no_request(arm: ArmFake) -> None:
    found = findings("compute", attrs.evolve(settings_for(arm), subscription_id=None))
    assert list(failed(found)) == list(found) == ["subscription"]
    assert "az account list" in found["subscription"].remedy
    assert arm.server.calls == []


def test_doctor_stops_after_unknown_subscription(arm: ArmFake) -> None:
    other = attrs.evolve(settings_for(arm), subscription_id="11111111-0000-0000-0000-000000000000")
    found = findings("compute", other)
    assert list(found) == ["subscription"]
    assert "az account list" in found["subscription"].remedy


def refusing(status: int, code: str) -> FakeServer:
    server = FakeServer()
    body = {"error": {"code": code, "message": "The client does not have authorization over the scope."}}
    server.route("*", ".*", lambda request: Answer(status=status, body=body))
    return server


def at(url: str, **settings: Any) -> AzureSettings:
    return AzureSettings(subscription_id=SUBSCRIPTION, management_endpoint=url, **settings)


def test_doctor_stops_after_rejected_credentials_without_showing_them() -> None:
    with refusing(401, "InvalidAuthenticationToken").serving() as server:
        found = findings("compute", at(server.url, client_id="app", tenant_id="t", client_secret="not-to-be-shown"))
    assert list(found) == ["credentials"]
    assert "az login" in found["credentials"].remedy
    assert "not-to-be-shown" not in repr(found)


def test_doctor_reports_incomplete_application(arm: ArmFake) -> None:
    found = findings(
        "compute", AzureSettings(subscription_id=SUBSCRIPTION, client_secret="not-to-be-shown", client_id="app")
    )
    assert not found["subscription"].ok
    assert "tenant_id" in found["subscription"].message
    assert "not-to-be-shown" not in repr(found)


def test_doctor_reports_unreadable_subscription_with_role() -> None:
    with refusing(403, "AuthorizationFailed").serving() as server:
        found = findings("compute", at(server.url))
    assert list(found) == ["subscription"]
    assert "--policy" in found["subscription"].remedy


def test_doctor_reports_unregistered_provider_with_command(arm: ArmFake, account: Account) -> None:
    account.registered.remove("Microsoft.Network")
    found = failed(check(arm))
    assert list(found) == ["Microsoft.Network"]
    assert found["Microsoft.Network"].remedy == (
        f"run: az provider register --namespace Microsoft.Network --subscription {SUBSCRIPTION}"
    )


@pytest.mark.parametrize(("region", "message"), [(None, "not set"), ("moon", '"moon"')])
def test_doctor_reports_invalid_region_and_skips_its_checks(
    arm: ArmFake, account: Account, region: str | None, message: str
) -> None:
    found = check(arm, CheckContext(region=region))
    assert list(failed(found)) == ["region"]
    assert message in found["region"].message
    assert not {"VM sizes", "on-demand quota", "spot quota"} & set(found)


def test_doctor_derives_region_from_zone(arm: ArmFake, account: Account) -> None:
    assert "eastus: 3 zones" in check(arm, CheckContext(zone="eastus-2"))["region"].message


def test_doctor_reports_quota_of_zero_with_command(arm: ArmFake, account: Account) -> None:
    arm.cloud.quotas["eastus"]["lowPriorityCores"] = 0
    found = failed(check(arm))
    assert list(found) == ["spot quota"]
    assert found["spot quota"].remedy.startswith("run: az quota update --resource-name lowPriorityCores")


def test_doctor_reports_missing_permission(arm: ArmFake, account: Account) -> None:
    account.permissions = [{"actions": ["*/read"]}, {"actions": ["Microsoft.Network/*", "Microsoft.Resources/*"]}]
    found = failed(check(arm, managed_identity="system"))
    assert list(found) == ["permissions", "managed identity"]
    assert "Microsoft.Compute/virtualMachines/delete" in found["permissions"].message
    assert "Microsoft.Network" not in found["permissions"].message
    assert "az role assignment create" in found["permissions"].remedy
    account.permissions.append({"actions": ["Microsoft.Compute/*"]})
    assert list(failed(check(arm, managed_identity="system"))) == ["managed identity"]


def test_doctor_reads_permissions_of_the_resource_group(arm: ArmFake, account: Account) -> None:
    arm.cloud.put_group("jobs", {"location": "eastus"})
    check(arm, resource_group="jobs")
    paths = [path for _, path in arm.server.calls if path.endswith("Authorization/permissions")]
    assert {path.partition("/providers/")[0] for path in paths} == {
        f"/subscriptions/{SUBSCRIPTION}/resourcegroups/jobs"
    }


def test_doctor_passes_unreadable_permissions(arm: ArmFake, account: Account) -> None:
    account.permissions = None
    found = check(arm)
    assert failed(found) == {}
    assert "cannot be checked" in found["permissions"].message


def test_doctor_reports_missing_managed_identity(arm: ArmFake, account: Account) -> None:
    found = failed(check(arm, managed_identity=None))
    assert list(found) == ["managed identity"]
    assert "az identity create" in found["managed identity"].remedy


def test_doctor_reports_missing_resources_with_create_command(arm: ArmFake, account: Account) -> None:
    account.resources.clear()
    found = failed(check(arm, resource_group="jobs", subnet=SUBNET))
    assert {subject: each.remedy.partition(" --")[0] for subject, each in found.items()} == {
        "managed identity": "run: az identity create",
        "resource group": "run: az group create",
        "subnet": "run: az network vnet subnet create",
    }
    assert "--vnet-name net --name workers" in found["subnet"].remedy


def test_doctor_reports_leftovers_of_instances_that_do_not_exist(arm: ArmFake, account: Account) -> None:
    with opened(arm, public_address=True) as compute:
        kept, gone = (compute.launch(wanted()).instance_id for _ in range(2))
        arm.cloud.machines = {key: each for key, each in arm.cloud.machines.items() if each.name == kept}
        found = failed(check(arm))
        assert list(found) == ["leftovers"]
        assert f"3 without a VM: {gone}-disk" in found["leftovers"].message
        ids = found["leftovers"].remedy.removeprefix("run: az resource delete --ids ").split()
        assert sorted(each.rpartition("/")[2] for each in ids) == [f"{gone}-disk", f"{gone}-ip", f"{gone}-nic"]
        assert not found["leftovers"].prevents_run


@pytest.mark.parametrize(
    ("actions", "missing"),
    [
        (["Microsoft.Compute/virtualMachines/delete"], False),
        (["Microsoft.Compute/*"], False),
        (["Microsoft.Storage/*"], True),
        (None, True),
    ],
)
def test_doctor_reports_identity_without_the_workers_role(
    arm: ArmFake, account: Account, actions: list[str] | None, missing: bool
) -> None:
    account.worker_role = actions
    found = failed(check(arm))
    assert list(found) == (["worker's role"] if missing else [])
    if missing:
        assert "--assignee-object-id principal-1" in found["worker's role"].remedy


def test_doctor_reports_identity_without_access_to_the_queues(arm: ArmFake, account: Account) -> None:
    account.worker_data = ["Microsoft.Storage/storageAccounts/blobServices/*"]
    assert failed(check(arm)) == {}
    found = failed(check(arm, attrs.evolve(CONTEXT, queue="azure")))
    assert list(found) == ["worker's role"]
    assert "queues/messages/read" in found["worker's role"].message
    account.worker_data.append("Microsoft.Storage/storageAccounts/queueServices/queues/messages/*")
    assert failed(check(arm, attrs.evolve(CONTEXT, queue="azure"))) == {}
    assert failed(check(arm, attrs.evolve(CONTEXT, queue="aws"))) == {}
    found = failed(check(arm, attrs.evolve(CONTEXT, queue="azure-servicebus")))
    assert "Microsoft.ServiceBus/namespaces/messages/receive/action" in found["worker's role"].message


def test_doctor_reports_server_errors_as_findings(
    arm: ArmFake, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource_manager, "_RETRIES", 0)

    def check_with_fault() -> Iterator[Finding]:
        for finding in doctor_compute.check_compute(settings_for(arm), CONTEXT):
            arm.server.fault = Fault(share=1.0, status=500)
            yield finding

    found = {each.subject: each for each in check_with_fault()}
    assert found["credentials"].ok
    assert set(failed(found)) == {
        "Microsoft.Network",
        "Microsoft.Storage",
        "VM sizes",
        "quotas",
        "instances",
        "managed identity",
    }
    assert all(each.remedy for each in failed(found).values())


def test_plain_http_endpoint_never_gets_a_token() -> None:
    seen: list[str] = []

    def answer(request: Request) -> Answer:
        seen.extend(name for name in request.headers if name == "authorization")
        return Answer(status=404)

    server = FakeServer()
    server.route("*", ".*", answer)
    with server.serving():
        findings("compute", at(server.url, client_id="app", tenant_id="t", client_secret="not-to-be-shown"))
    assert server.calls
    assert seen == []


# Queues


def test_doctor_passes_usable_account_and_creates_nothing(azurite: Azurite) -> None:
    before = (azurite.queues(), azurite.blobs())
    found = findings("queue", AzureSettings(connection_string=azurite.connection_string, oversize_container="unused"))
    assert failed(found) == {}
    assert list(found) == ["storage account", "container for large messages", "workers' access"]
    assert "created with the first large message" in found["container for large messages"].message
    assert (azurite.queues(), azurite.blobs()) == before


def test_doctor_warns_if_workers_do_not_get_the_account(azurite: Azurite) -> None:
    access = findings("queue", AzureSettings(connection_string=azurite.connection_string))["workers' access"]
    assert access.ok
    assert "azure.storage_account" in access.remedy
    both = AzureSettings(
        connection_string=azurite.connection_string, storage_account="account", managed_identity="system"
    )
    assert findings("queue", both)["workers' access"].remedy == ""


def test_doctor_reports_missing_account() -> None:
    found = findings("queue", AzureSettings())
    assert "AZURE_STORAGE_CONNECTION_STRING" in failed(found)["storage account"].remedy


def test_doctor_reports_rejected_key_without_showing_it(azurite: Azurite) -> None:
    settings = AzureSettings(connection_string=azurite.connection_string.replace(azurite.key, "d3Jvbmcta2V5"))
    found = findings("queue", settings)
    assert not found["storage account"].ok
    assert found["storage account"].remedy
    assert "d3Jvbmcta2V5" not in repr(found)


def test_doctor_reports_missing_role_with_command(azurite: Azurite) -> None:
    faults = StorageFaults(azurite.queue_endpoint)
    faults.fail("GET", "/standin/", "AuthorizationPermissionMismatch", status=403, times=9)
    text = azurite.connection_string.replace(azurite.queue_endpoint, faults.endpoint)
    with faults.server.serving():
        found = findings("queue", AzureSettings(connection_string=text))["storage account"]
    assert not found.ok
    assert "--policy" in found.remedy


def test_doctor_reports_invalid_connection_string_without_showing_it() -> None:
    found = findings("queue", AzureSettings(connection_string="not-to-be-shown"))
    assert not found["storage account"].ok
    assert "not-to-be-shown" not in repr(found)


def test_doctor_reports_missing_namespace() -> None:
    service_bus = Registry(only=["azure-servicebus"]).queue("azure-servicebus").check
    assert service_bus is not None
    found = {each.subject: each for each in service_bus(ServiceBusSettings(), CONTEXT)}
    assert "az servicebus namespace list" in failed(found)["Service Bus"].remedy
    assert "AZURE_SERVICEBUS_CONNECTION_STRING" in found["workers' access"].remedy
    settings = ServiceBusSettings(namespace_name="jobs", connection_string="not-to-be-shown")
    found = {each.subject: each for each in service_bus(settings, CONTEXT)}
    assert "not-to-be-shown" not in repr(found)
    assert "managed_identity" in found["workers' access"].message


# Prices


def test_doctor_passes_readable_prices() -> None:
    with RetailFake(page_size=1) as prices:
        found = findings("pricing", AzureSettings(prices_endpoint=prices.url))
        assert failed(found) == {}
        assert len(prices.server.calls) == 1


def test_doctor_reports_region_without_prices() -> None:
    with RetailFake() as prices:
        settings = AzureSettings(prices_endpoint=prices.url)
        assert "list-regions" in findings("pricing", settings, CheckContext(region="moon"))["Retail Prices API"].remedy
    assert not findings("pricing", settings, CheckContext())["region"].ok


def test_doctor_reports_unreadable_prices() -> None:
    def refuse(request: Request) -> Answer:
        return Answer(status=403, body="a proxy says no")

    server = FakeServer()
    server.route("GET", ".*", refuse)
    with server.serving():
        found = findings("pricing", AzureSettings(prices_endpoint=server.url))["Retail Prices API"]
    assert not found.ok
    assert found.remedy.startswith("check the network access of this machine: curl")
