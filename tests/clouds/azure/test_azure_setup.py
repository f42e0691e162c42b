"""``cloud-tasks setup azure`` on the fakes: a new subscription, what Azure refuses, and the first job."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
from arm_fake import SUBSCRIPTION, ArmFake
from arm_requests import opened, settings_for, wanted
from arm_setup import Subscription
from arm_sign_in import SignIn, signed_in
from azure.storage.blob import BlobServiceClient
from azurite import Azurite
from fake_server import Answer, FakeServer
from setup_facts import facts_of_cloud, facts_of_shell, facts_of_terraform
from storage_faults import StorageFaults

from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.plugin import AccountSetup, CheckContext, SetupContext, SetupItem, terraform_text
from cloud_tasks.registry import Registry
from cloud_tasks.testing import SetupContract, SetupSubject
from cloud_tasks_azure.compute.arm import Arm
from cloud_tasks_azure.doctor_compute import check_compute
from cloud_tasks_azure.settings import AzureSettings
from cloud_tasks_azure.setup.calls import Calls
from cloud_tasks_azure.setup.names import names_for
from cloud_tasks_azure.setup.storage import signed_in_to_account

BACKEND = Registry(only=["azure"]).compute("azure")


@pytest.fixture
def sign_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[SignIn]:
    with signed_in() as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def arm(azurite: Azurite, sign_in: SignIn, tmp_path: Path) -> Iterator[ArmFake]:
    """A subscription in which nothing is set up."""
    with ArmFake(tmp_path / "arm", storage=azurite.connection_string) as fake:
        yield fake
    with BlobServiceClient.from_connection_string(azurite.connection_string) as blobs:
        for each in blobs.list_containers():
            blobs.delete_container(str(each.name))


@pytest.fixture
def state(arm: ArmFake) -> Subscription:
    assert arm.subscription is not None
    return arm.subscription


@pytest.fixture
def settings(arm: ArmFake, azurite: Azurite) -> AzureSettings:
    return settings_for(arm, connection_string=azurite.connection_string, operation_poll_seconds=0.001)


class TestSetupOfAzure(SetupContract):
    @pytest.fixture
    def subject(self, settings: AzureSettings) -> SetupSubject:
        return SetupSubject(backend=BACKEND, settings=settings, region="eastus")


def plan_of(settings: AzureSettings, **context: str) -> AccountSetup:
    assert BACKEND.setup is not None
    return BACKEND.setup(settings, SetupContext(**{"region": "eastus", "queue": "azure", **context}))


def make(plan: AccountSetup, *, count: int | None = None) -> None:
    """Make what is missing, or the first items."""
    for item in plan.items[:count]:
        if item.look():
            item.make()


def item_of(plan: AccountSetup, subject: str) -> SetupItem:
    return next(each for each in plan.items if each.subject.startswith(subject))


def removed(plan: AccountSetup) -> dict[str, str]:
    """Remove everything; return the reasons for what is kept."""
    return {each.subject: reason for each in reversed(plan.items) if (reason := each.remove())}


def account_of(arm: ArmFake, settings: AzureSettings) -> dict[str, Any]:
    name = plan_of(settings).settings["azure.storage_account"]
    return next(each for path, each in arm.cloud.resources.items() if path.endswith(f"/storageaccounts/{name}"))


def facts_of(arm: ArmFake, state: Subscription) -> dict[str, Any]:
    return facts_of_cloud(arm.cloud.resources, arm.cloud.groups, state)


# names and settings


def test_setup_records_what_jobs_need(settings: AzureSettings) -> None:
    plan = plan_of(settings)
    name = plan.settings["azure.storage_account"]
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/cloud-tasks"
    identities = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
    assert re.fullmatch("[a-z0-9]{3,24}", name)
    assert plan.identity == {"azure.subscription_id": SUBSCRIPTION}
    assert plan.settings == {
        "run.region": "eastus",
        "run.staging": "az://staging",
        "azure.resource_group": "cloud-tasks",
        "azure.storage_account": name,
        "azure.managed_identity": f"{identities}/cloud-tasks-worker",
    }
    other = plan_of(attrs.evolve(settings, subscription_id=SUBSCRIPTION.upper()), region="westeurope")
    assert other.settings["azure.storage_account"] == name
    another = plan_of(attrs.evolve(settings, subscription_id=SUBSCRIPTION.replace("a", "b")))
    assert another.settings["azure.storage_account"] != name
    assert plan_of(attrs.evolve(settings, storage_account="mine")).settings["azure.storage_account"] == "mine"


def test_setup_needs_subscription_and_region(settings: AzureSettings) -> None:
    with pytest.raises(InputError, match=r"no region is set.*--region"):
        plan_of(settings, region="")
    with pytest.raises(InputError, match=r"no Azure subscription is configured.*az account list"):
        plan_of(attrs.evolve(settings, subscription_id=None))


# what is made, in three forms


def test_setup_makes_the_same_as_its_shell_lines_and_terraform_blocks(
    arm: ArmFake, state: Subscription, settings: AzureSettings
) -> None:
    odd = attrs.evolve(settings, tags={"cost center": "it's 42"}, oversize_container="large-messages")
    plan = plan_of(odd)
    make(plan)
    made = facts_of(arm, state)
    assert facts_of_shell(plan) == made
    assert facts_of_terraform(plan) == made


def test_roles_of_the_instances_are_the_least(arm: ArmFake, state: Subscription, settings: AzureSettings) -> None:
    make(plan_of(settings))
    facts = facts_of(arm, state)
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/cloud-tasks"
    account = f"{group}/providers/Microsoft.Storage/storageAccounts/{facts['account']['name']}"
    containers = f"{account}/blobServices/default/containers"
    assert [each[:3] for each in facts["assignments"] if each[2] == "worker"] == [
        ("Storage Blob Data Contributor", f"{containers}/cloud-tasks", "worker"),
        ("Storage Blob Data Reader", f"{containers}/staging", "worker"),
        (f"cloud-tasks worker {SUBSCRIPTION[:8]}", group, "worker"),
    ]
    messages = "Microsoft.Storage/storageAccounts/queueServices/queues/messages"
    assert facts["role"]["actions"] == ["Microsoft.Compute/virtualMachines/delete"]
    assert facts["role"]["data"] == [f"{messages}/{each}" for each in ("delete", "process/action", "read", "write")]


@pytest.mark.parametrize("queue", ["aws", "azure-servicebus"])
def test_setup_for_another_queue_gives_no_access_to_storage_queues(
    queue: str, state: Subscription, settings: AzureSettings
) -> None:
    make(plan_of(settings, queue=queue))
    (role,) = state.roles.definitions.values()
    assert "queueServices" not in str(role["properties"]["permissions"])
    assert [each["name"] for each in state.storage.containers.values()] == ["staging"]


def test_identity_of_the_settings_gets_the_roles(arm: ArmFake, state: Subscription, settings: AzureSettings) -> None:
    make(plan_of(attrs.evolve(settings, resource_group="others")), count=3)
    (identity,) = arm.cloud.resources.values()
    own = attrs.evolve(settings, managed_identity=identity["id"])
    make(plan_of(own))
    members = [each["properties"]["principalId"] for each in state.roles.assignments.values()]
    assert members.count(identity["properties"]["principalId"]) == 3
    plan = plan_of(own)
    assert plan.settings["azure.managed_identity"] == identity["id"]
    assert not [each.subject for each in plan.items if each.subject.startswith("managed identity")]
    assert "data.azurerm_user_assigned_identity.worker.principal_id" in terraform_text(
        item_of(plan, "roles of").terraform
    )
    assert "roles of cloud-tasks-worker" not in removed(plan)
    missing = attrs.evolve(settings, managed_identity=identity["id"].replace("worker", "missing"))
    with pytest.raises(CloudTasksError, match=r"cloud-tasks-missing does not exist; check azure\.managed_identity"):
        make(plan_of(missing))


# what exists is corrected, and what is there beyond it is kept


def test_setup_corrects_what_is_wrong_and_keeps_the_rest(
    arm: ArmFake, state: Subscription, settings: AzureSettings
) -> None:
    make(plan_of(settings))
    made = facts_of(arm, state)
    account = account_of(arm, settings)["properties"]
    account |= {"supportsHttpsTrafficOnly": False, "minimumTlsVersion": "TLS1_0", "allowBlobPublicAccess": True}
    account["allowSharedKeyAccess"] = True
    (policy,) = state.storage.policies.values()
    theirs = {**policy["policy"]["rules"][0], "name": "theirs"}
    policy["policy"]["rules"] = [theirs]
    container = next(each for each in state.storage.containers.values() if each["name"] == "staging")
    container["properties"]["publicAccess"] = "Blob"
    (role,) = state.roles.definitions.values()
    role["properties"]["permissions"] = [
        {"actions": ["*/read"], "notActions": [], "dataActions": [], "notDataActions": []}
    ]
    plan = plan_of(settings)
    found = {each.subject: problem for each in plan.items if (problem := each.look())}
    assert list(found.values())[:2] == [
        "plain HTTP is possible, TLS before 1.2 is possible, public access is possible",
        "public access is possible, objects are kept",
    ]
    assert found[f"role cloud-tasks worker {SUBSCRIPTION[:8]}"].startswith("it lacks Microsoft.Compute/virtualMachines")
    assert len(found) == 3
    make(plan)
    assert [each.look() for each in plan_of(settings).items if each.look()] == []
    assert account_of(arm, settings)["properties"]["allowSharedKeyAccess"] is True, "changed without need"
    (policy,) = state.storage.policies.values()
    assert [each["name"] for each in policy["policy"]["rules"]] == ["theirs", made["rules"][0][0]]
    (role,) = state.roles.definitions.values()
    assert role["properties"]["permissions"][0]["actions"] == ["*/read"]
    item_of(plan_of(settings), "container staging").remove()
    (policy,) = state.storage.policies.values()
    assert [each["name"] for each in policy["policy"]["rules"]] == ["theirs"]


def test_lifecycle_rule_with_other_days_is_replaced(state: Subscription, settings: AzureSettings) -> None:
    make(plan_of(settings))
    (policy,) = state.storage.policies.values()
    delete = policy["policy"]["rules"][0]["definition"]["actions"]["baseBlob"]["delete"]
    delete["daysAfterModificationGreaterThan"] = 365
    item = item_of(plan_of(settings), "container staging")
    assert item.look() == "objects are not deleted after 14 days"
    item.make()
    assert item.look() == ""


@pytest.mark.parametrize("count", range(10))
def test_setup_is_completed_after_an_interruption(
    count: int, arm: ArmFake, state: Subscription, settings: AzureSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first items are made, and the first request of the next one."""
    plan = plan_of(settings)
    make(plan, count=count)
    with monkeypatch.context() as patch:
        stop_after_one_change(patch)
        with suppress(KeyboardInterrupt):
            plan.items[count].make()
    make(plan_of(settings))
    assert [each.look() for each in plan_of(settings).items if each.look()] == []
    assert len(facts_of(arm, state)["assignments"]) == 5


def stop_after_one_change(patch: pytest.MonkeyPatch) -> None:
    """Interrupt the setup at its second change."""
    send, made = Arm._send, []

    def limited(arm: Arm, method: str, url: str, **options: Any) -> Any:
        if method != "GET":
            made.append(url)
        if len(made) > 1:
            raise KeyboardInterrupt
        return send(arm, method, url, **options)

    patch.setattr(Arm, "_send", limited)


# what Azure refuses


def test_name_of_an_account_of_others_is_refused_before_anything_is_made(
    arm: ArmFake, state: Subscription, settings: AzureSettings
) -> None:
    state.states["Microsoft.Storage"] = "Registered"
    name = plan_of(settings).settings["azure.storage_account"]
    state.storage.taken.add(name)
    item = item_of(plan_of(settings), "storage account")
    with pytest.raises(InputError, match=f"the name {name} belongs to a storage account outside") as refused:
        item.look()
    assert "set azure.storage_account to a free name" in refused.value.hint
    make(plan_of(settings), count=3)
    with pytest.raises(InputError, match=f"the name {name} belongs to a storage account outside"):
        item.make()
    assert not [path for path in arm.cloud.resources if "storageaccounts" in path]
    other = attrs.evolve(settings, storage_account="anothername")
    make(plan_of(other))
    assert account_of(arm, other)["name"] == "anothername"


def test_account_that_another_user_makes_meanwhile_is_ours(
    settings: AzureSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(plan_of(settings), count=3)
    post = Calls.post

    def after_another_user(calls: Calls, path: str, version: str, body: Any = None) -> dict[str, Any]:
        monkeypatch.setattr(Calls, "post", post)
        item_of(plan_of(settings), "storage account").make()
        return post(calls, path, version, body)

    monkeypatch.setattr(Calls, "post", after_another_user)
    item = item_of(plan_of(settings), "storage account")
    assert item.look() == "missing"
    item.make()
    assert item.look() == ""


def test_account_in_another_group_is_refused(arm: ArmFake, state: Subscription, settings: AzureSettings) -> None:
    make(plan_of(attrs.evolve(settings, resource_group="others", storage_account="theirs")))
    plan = plan_of(attrs.evolve(settings, storage_account="theirs"))
    for function in (item_of(plan, "storage account").look, item_of(plan, "storage account").make):
        make(plan, count=3)
        with pytest.raises(InputError, match="outside of the resource group cloud-tasks"):
            function()


def test_account_without_queues_is_refused(arm: ArmFake, settings: AzureSettings) -> None:
    make(plan_of(settings))
    account_of(arm, settings)["kind"] = "BlobStorage"
    with pytest.raises(InputError, match="of the kind BlobStorage, which is not StorageV2"):
        item_of(plan_of(settings), "storage account").look()


@pytest.mark.parametrize(
    ("subject", "action"),
    [
        ("resource providers", "Microsoft.Compute/register/action"),
        ("resource group", "Microsoft.Resources/subscriptions/resourceGroups/write"),
        ("managed identity", "Microsoft.ManagedIdentity/userAssignedIdentities/write"),
        ("storage account", "Microsoft.Storage/storageAccounts/write"),
        ("container staging", "Microsoft.Storage/storageAccounts/managementPolicies/write"),
        ("role", "Microsoft.Authorization/roleDefinitions/write"),
        ("your roles", "Microsoft.Authorization/roleAssignments/write"),
    ],
)
def test_missing_permission_is_named_in_one_line(
    subject: str, action: str, state: Subscription, settings: AzureSettings
) -> None:
    state.denied = {action}
    with pytest.raises(CloudTasksError) as refused:
        make(plan_of(settings))
    assert refused.value.message.startswith("cannot ")
    assert f"the permission {action} is missing in /subscriptions/{SUBSCRIPTION}" in refused.value.message
    assert "ask an owner of the subscription" in refused.value.hint
    assert "\n" not in str(refused.value)
    missing = [each.subject for each in plan_of(settings).items if each.look()]
    assert missing[0].startswith(subject), missing


def test_linked_refusal_names_the_missing_permission() -> None:
    text = (
        "The client 'ada' with object id '1' has permission to perform action"
        " 'Microsoft.Storage/storageAccounts/write' on scope '/subscriptions/s'; however, it does not have permission"
        " to perform action(s) 'Microsoft.Network/virtualNetworks/subnets/joinViaServiceEndpoint/action' on the linked"
        " scope(s) '/subscriptions/s/subnet' (respectively) or the linked scope(s) are invalid."
    )
    server = FakeServer()
    error = {"error": {"code": "LinkedAuthorizationFailed", "message": text}}
    server.route("*", ".*", lambda request: Answer(status=403, body=error))
    with server.serving():
        calls = Calls(AzureSettings(subscription_id="s", management_endpoint=server.url))
        with pytest.raises(
            CloudTasksError, match=r"joinViaServiceEndpoint/action is missing in /subscriptions/s/subnet"
        ):
            calls.put("/resourceGroups/g", "2021-04-01", {})


def test_conflicts_and_what_azure_does_not_know_yet_are_repeated(
    arm: ArmFake, state: Subscription, settings: AzureSettings
) -> None:
    state.polls, state.storage.polls, state.conflicts = 3, 3, 2
    state.roles.unknown_principals, state.roles.unknown_roles = 3, 3
    make(plan_of(settings))
    assert [each.look() for each in plan_of(settings).items if each.look()] == []
    assert (state.conflicts, state.roles.unknown_principals, state.roles.unknown_roles) == (0, 0, 0)
    state.roles.assignments.clear()
    state.roles.unknown_principals = 1000
    with pytest.raises(CloudTasksError, match="PrincipalNotFound"):
        make(plan_of(settings))


def test_setup_waits_until_roles_take_effect(azurite: Azurite, arm: ArmFake, settings: AzureSettings) -> None:
    faults = StorageFaults(azurite.queue_endpoint)
    with faults.server.serving():
        proxied = str(settings.connection_string).replace(azurite.queue_endpoint, faults.endpoint)
        behind = attrs.evolve(settings, connection_string=proxied)
        faults.fail("GET", "/standin/?", "AuthorizationPermissionMismatch", status=403, times=3)
        make(plan_of(behind))
        assert faults.calls("GET", "/standin/?") == 4
        faults.fail("GET", "/standin/?", "AuthorizationFailure", status=403, times=2)
        item = item_of(plan_of(behind), "access")
        with pytest.raises(CloudTasksError, match=r"no access to blobs and queues of .*: AuthorizationFailure"):
            item.make()


def test_setup_needs_a_sign_in(sign_in: SignIn, settings: AzureSettings) -> None:
    make(plan_of(settings), count=4)
    sign_in.claims = {}
    with pytest.raises(CloudTasksError, match="az login"):
        item_of(plan_of(settings), "your roles").look()


def test_roles_of_an_application_are_those_of_a_service_principal(
    sign_in: SignIn, state: Subscription, settings: AzureSettings
) -> None:
    sign_in.claims |= {"oid": "app-1", "idtyp": "app"}
    state.roles.principals.add("app-1")
    make(plan_of(settings))
    kinds = {each["properties"]["principalType"] for each in state.roles.assignments.values()}
    assert kinds == {"ServicePrincipal"}


def test_doctor_is_content_with_what_setup_made(settings: AzureSettings) -> None:
    make(plan_of(settings))
    found = {name.partition(".")[2]: value for name, value in plan_of(settings).settings.items() if "azure." in name}
    context = CheckContext(region="eastus", queue="azure", staging="az://staging")
    findings = list(check_compute(attrs.evolve(settings, **found), context))
    assert [each for each in findings if not each.ok] == []
    by_subject = {each.subject: each.message for each in findings}
    assert by_subject["worker's role"] == "cloud-tasks-worker has the worker's permissions"
    assert by_subject["staging"].startswith("standin/staging is writable")


# removal


def test_removal_keeps_what_has_content_or_users(arm: ArmFake, state: Subscription, settings: AzureSettings) -> None:
    make(plan_of(settings))
    with BlobServiceClient.from_connection_string(str(settings.connection_string)) as blobs:
        for number in range(3):
            blobs.get_blob_client("staging", f"job/file-{number}").upload_blob(b"x")
    state.storage.content = {"queues": ["jobs-tasks"]}
    identity = str(plan_of(settings).settings["azure.managed_identity"])
    with opened(arm, managed_identity=identity, resource_group="cloud-tasks") as compute:
        instance = compute.launch(wanted()).instance_id
    name = plan_of(settings).settings["azure.storage_account"]
    kept = removed(plan_of(settings))
    assert kept.pop("resource group cloud-tasks").startswith("it contains ")
    assert kept == {
        "container staging": "it has 3 objects",
        f"storage account {name}": "it has queues: jobs-tasks",
        "managed identity cloud-tasks-worker": f"{instance} uses it",
        "resource providers": "no cost, and other programs may need it",
        "your roles": "without them you could not delete the files that are left",
    }
    assert state.storage.policies, "objects would be kept"


def test_removal_keeps_a_container_whose_objects_cannot_be_listed(
    azurite: Azurite, state: Subscription, settings: AzureSettings
) -> None:
    make(plan_of(settings))
    faults = StorageFaults(azurite.blob_endpoint)
    with faults.server.serving():
        proxied = str(settings.connection_string).replace(azurite.blob_endpoint, faults.endpoint)
        behind = attrs.evolve(settings, connection_string=proxied)
        faults.fail("GET", "/staging", "AuthorizationPermissionMismatch", status=403)
        reason = item_of(plan_of(behind), "container staging").remove()
    assert reason == "its objects cannot be listed: AuthorizationPermissionMismatch"
    assert state.storage.policies


def test_connection_string_of_another_account_is_not_used() -> None:
    given = AzureSettings(subscription_id=SUBSCRIPTION, connection_string="AccountName=theirs;AccountKey=AAAA")
    names = names_for(given, SetupContext(region="eastus"))
    found = signed_in_to_account(Calls(given), names)
    assert (found.connection_string, found.storage_account) == (None, names.account)


def test_setup_uses_and_keeps_what_others_made(arm: ArmFake, state: Subscription, settings: AzureSettings) -> None:
    make(plan_of(settings))
    for each in (*arm.cloud.resources.values(), *arm.cloud.groups.values()):
        each["tags"] = {}
    for container in state.storage.containers.values():
        container["properties"]["metadata"] = {}
    (role,) = state.roles.definitions.values()
    role["properties"]["description"] = ""
    for each in state.roles.assignments.values():
        each["properties"]["description"] = ""
    before = len(state.changes)
    make(plan_of(settings))
    kept = removed(plan_of(settings))
    kinds = {subject.split()[0] for subject in kept}
    assert kinds == {"resource", "managed", "storage", "container", "role", "roles", "your"}
    assert kept.pop("your roles") == "without them you could not delete the files that are left"
    assigned = {subject: kept.pop(subject) for subject in list(kept) if "roles" in subject}
    reasons = {each.partition(" Storage")[0] for each in assigned.values()}
    assert reasons == {f"others assigned cloud-tasks worker {SUBSCRIPTION[:8]},"}
    del kept["resource providers"]
    assert set(kept.values()) == {"setup did not make it"}
    assert state.changes[before:] == []


def test_role_with_another_member_is_kept(state: Subscription, settings: AzureSettings) -> None:
    make(plan_of(settings))
    (role,) = state.roles.definitions.values()
    scope = f"/subscriptions/{SUBSCRIPTION}"
    theirs = {"roleDefinitionId": role["id"], "principalId": "theirs", "scope": scope}
    state.roles.assignments["theirs"] = {"id": "theirs", "name": "theirs", "properties": theirs}
    kept = removed(plan_of(settings))
    assert kept[f"role cloud-tasks worker {SUBSCRIPTION[:8]}"] == "1 assignment uses it"
    assert list(state.roles.assignments) == ["theirs"]
