"""The roles that are printed: all that the plugin asks for is in them, and nothing that a setting makes needless."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from arm_desk import opened, wanted
from arm_fake import SUBSCRIPTION, ArmFake
from azurite import Azurite, azurite_server
from storage_faults import StorageFaults

from cloud_tasks.plugin import CheckContext, QueueContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import eventually
from cloud_tasks_azure.permissions import missing, worker_queue_allowed
from cloud_tasks_azure.settings import AzureSettings

IDENTITY = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/w"
)
SUBNET = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/n/subnets/s"


def roles(**settings: Any) -> dict[str, Any]:
    backend = Registry(only=["azure"]).compute("azure")
    assert backend.policies is not None
    chosen = AzureSettings(subscription_id=SUBSCRIPTION, **settings)
    return {name: json.loads(text) for name, text in backend.policies(chosen, CheckContext()).items()}


# What Resource Manager is asked for

_VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "DELETE": "delete"}
_RESOURCE = re.compile(
    r"/subscriptions/[^/]+(?:/resourceGroups/[^/]+)?/providers/(?P<space>[\w.]+)/(?P<rest>.+)", re.IGNORECASE
)


def action_of(method: str, path: str) -> str:
    """The action that a request is allowed by ("Understand Azure role definitions": provider, kind, verb)."""
    if re.fullmatch(r"/subscriptions/[^/]+/providers/[^/]+", path):
        return "Microsoft.Resources/subscriptions/providers/read"
    if match := _RESOURCE.fullmatch(path):
        parts = match["rest"].split("/")
        if parts[0] == "locations":
            # locations/eastus/usages, locations/eastus/operations/1234
            return f"{match['space']}/locations/{parts[2]}/read"
        kinds = "/".join(parts[0::2])
        if method == "POST":
            return f"{match['space']}/{parts[0]}/{parts[2]}/action"
        return f"{match['space']}/{kinds}/{_VERBS[method]}"
    rest = re.sub(r"^/subscriptions/[^/]+", "", path)
    if re.fullmatch(r"/resourceGroups/[^/]+/resources", rest, re.IGNORECASE):
        return "Microsoft.Resources/subscriptions/resourcegroups/resources/read"
    return f"Microsoft.Resources/subscriptions/{rest.split('/')[1]}/{_VERBS[method]}"


def actions_asked_for(fake: ArmFake) -> set[str]:
    return {action_of(method, path) for method, path in fake.wire.calls if not path.startswith("/stand-in/")}


def lower(actions: Iterable[str]) -> set[str]:
    return {action.lower() for action in actions}


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[ArmFake]:
    with ArmFake(tmp_path / "arm") as fake:
        yield fake


def live(fake: ArmFake, **settings: Any) -> None:
    """All that is done with machines: look, start, read, end, and tidy up, orphaned parts included."""
    with opened(fake, **settings) as compute:
        compute.regions()
        compute.images()
        compute.instance_types()
        request = wanted()
        compute.headroom(request.offer)
        started = compute.launch(request)
        compute.launch(request)
        compute.console_log(started.instance_id)
        for part in fake.cloud.find(lambda each: each["type"].rpartition("/")[2] in _PARTS):
            part["properties"]["deleteOption"] = "Detach"
        eventually(lambda: compute.instances("job"))
        compute.terminate([started.instance_id])
    eventually(lambda: fake.state()["resources"] == [])


_PARTS = ("disks", "networkInterfaces", "publicIPAddresses")


def test_the_controllers_role_allows_all_that_is_asked_of_resource_manager(arm: ArmFake) -> None:
    live(arm, public_address=True)
    asked, allowed = actions_asked_for(arm), roles(public_address=True)["controller"]["Actions"]
    assert lower(asked) <= lower(allowed)
    assert lower(asked) >= {
        "microsoft.compute/virtualmachines/write",
        "microsoft.compute/virtualmachines/retrievebootdiagnosticsdata/action",
        "microsoft.compute/disks/delete",
        "microsoft.network/publicipaddresses/delete",
        "microsoft.resources/subscriptions/resourcegroups/delete",
    }


def test_it_does_in_a_group_that_was_there_before_as_well(arm: ArmFake) -> None:
    arm.cloud.put_group("ours", {"location": "eastus"})
    live(arm, resource_group="ours")
    asked, allowed = actions_asked_for(arm), lower(roles(resource_group="ours")["controller"]["Actions"])
    assert lower(asked) <= allowed
    assert "microsoft.network/virtualnetworks/delete" in lower(asked)


def test_every_action_that_is_allowed_is_asked_for_or_needed_by_what_is(arm: ArmFake) -> None:
    live(arm, public_address=True)
    arm.cloud.put_group("ours", {"location": "eastus"})
    live(arm, public_address=True, resource_group="ours")
    idle = lower(roles(public_address=True)["controller"]["Actions"]) - lower(actions_asked_for(arm))
    # What Azure checks along with a machine's creation, what only the doctor asks for, and reads beside the writes.
    assert idle == {
        "microsoft.authorization/permissions/read",
        "microsoft.compute/disks/read",
        "microsoft.compute/disks/write",
        "microsoft.compute/galleries/images/versions/read",
        "microsoft.network/locations/operationresults/read",
        "microsoft.network/locations/operations/read",
        "microsoft.network/networkinterfaces/join/action",
        "microsoft.network/networkinterfaces/read",
        "microsoft.network/networkinterfaces/write",
        "microsoft.network/networksecuritygroups/join/action",
        "microsoft.network/publicipaddresses/join/action",
        "microsoft.network/publicipaddresses/read",
        "microsoft.network/publicipaddresses/write",
        "microsoft.network/virtualnetworks/subnets/join/action",
        "microsoft.resources/providers/read",
    } | {each for each in idle if each.startswith("microsoft.storage/")}


def test_a_setting_that_makes_a_right_needless_takes_it_away() -> None:
    plain = set(roles()["controller"]["Actions"])
    assert not [each for each in plain if "ManagedIdentity" in each or each.endswith("publicIPAddresses/write")]
    inside = set(roles(resource_group="ours", subnet=SUBNET, managed_identity="system")["controller"]["Actions"])
    assert not [each for each in inside if "resourceGroups/write" in each or "resourceGroups/delete" in each]
    assert not [each for each in inside if "virtualNetworks/write" in each or "virtualNetworks/delete" in each]
    assert "Microsoft.Network/virtualNetworks/subnets/join/action" in inside
    named = set(roles(managed_identity=IDENTITY)["controller"]["Actions"])
    assert "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action" in named - plain


# What storage is asked for


@pytest.fixture(scope="module")
def storage() -> Iterator[Azurite]:
    with azurite_server() as server:
        yield server


_QUEUES = "Microsoft.Storage/storageAccounts/queueServices/queues"


def queue_action(method: str, path: str) -> str:
    """The action by which Azure allows a call of the Queue service ("Permissions for calling data operations")."""
    rest = path.split("/")[2:]
    match method, [part for part in rest if part]:
        case "GET", []:
            return f"{_QUEUES}/read"
        case "GET", [_]:
            return f"{_QUEUES}/read"
        case "PUT", [_]:
            return f"{_QUEUES}/write"
        case "DELETE", [_]:
            return f"{_QUEUES}/delete"
        case "GET", [_, "messages"]:
            return f"{_QUEUES}/messages/process/action"
        case "POST" | "PUT", [_, "messages", *_]:
            return f"{_QUEUES}/messages/write"
        case "DELETE", [_, "messages", *_]:
            return f"{_QUEUES}/messages/delete"
    raise AssertionError(f"{method} {path} is no call that is known")


_CONTAINERS = "Microsoft.Storage/storageAccounts/blobServices/containers"


def blob_action(method: str, path: str) -> str:
    """Likewise of the Blob service."""
    match method, [part for part in path.split("/")[2:] if part]:
        case "PUT", [_]:
            return f"{_CONTAINERS}/write"
        case "GET", _:
            # Of a container: which blobs are in it, which is no right to the container itself.
            return f"{_CONTAINERS}/blobs/read"
        case "PUT", [_, _, *_]:
            return f"{_CONTAINERS}/blobs/write"
        case "DELETE", [_, _, *_]:
            return f"{_CONTAINERS}/blobs/delete"
    raise AssertionError(f"{method} {path} is no call that is known")


class Watched:
    """The services of an account, and the actions that were asked for."""

    def __init__(self, storage: Azurite) -> None:
        self.queues, self.blobs = StorageFaults(storage.queue_endpoint), StorageFaults(storage.blob_endpoint)
        self.connection_string = storage.connection_string.replace(
            storage.queue_endpoint, self.queues.endpoint
        ).replace(storage.blob_endpoint, self.blobs.endpoint)

    def asked(self) -> set[str]:
        """Since the last time."""
        found = {queue_action(*call) for call in self.queues.wire.calls}
        found |= {blob_action(*call) for call in self.blobs.wire.calls}
        self.queues.wire.calls.clear()
        self.blobs.wire.calls.clear()
        return found


def test_the_roles_allow_all_that_is_asked_of_storage(storage: Azurite) -> None:
    watched = Watched(storage)
    settings = AzureSettings(subscription_id=SUBSCRIPTION, connection_string=watched.connection_string)
    context = QueueContext(name="tasks", job_id="job", lease=timedelta(seconds=30))
    backend = Registry(only=["azure"]).queue("azure")
    with watched.queues.wire.serving(), watched.blobs.wire.serving(), backend.open(settings, context) as owner:
        owner.create()
        by_owner = watched.asked()
        with backend.open(settings, context) as worker:
            worker.send([b"one", b"x" * 100_000])
            first, second = (worker.receive(1, wait=timedelta(seconds=5))[0] for _ in range(2))
            worker.extend([first.lease_id], lease=timedelta(seconds=60))
            worker.release([first.lease_id])
            worker.ack([second.lease_id])
        by_worker = watched.asked()
        owner.send([b"x" * 100_000])
        owner.depth()
        owner.purge()
        owner.delete()
        by_owner |= watched.asked()
    found = roles()
    allowed = {name: {*role["Actions"], *role["DataActions"]} for name, role in found.items()}
    assert by_worker <= allowed["worker"]
    assert by_owner <= allowed["controller"]
    assert {f"{_QUEUES}/messages/process/action", f"{_CONTAINERS}/blobs/write", f"{_CONTAINERS}/write"} <= by_worker
    assert f"{_QUEUES}/delete" in by_owner - allowed["worker"]


def test_blobs_are_in_the_roles_only_where_large_messages_are_taken() -> None:
    assert "blobs/read" in json.dumps(roles())
    for role in roles(oversize_container="").values():
        assert "blob" not in json.dumps(role)


def test_a_role_for_service_bus_has_nothing_of_storage() -> None:
    found = roles(queue="servicebus")
    assert "Microsoft.Storage" not in json.dumps(found)
    sends = "Microsoft.ServiceBus/namespaces/messages/send/action"
    assert sends in found["worker"]["DataActions"]
    assert not [each for each in found["worker"]["Actions"] if "ServiceBus" in each]


# The documents


def test_a_role_is_what_the_azure_cli_takes_and_is_held_to_the_subscription() -> None:
    for role in roles().values():
        assert set(role) == {
            "Name", "IsCustom", "Description", "Actions", "NotActions", "DataActions", "NotDataActions",
            "AssignableScopes",
        }  # fmt: skip
        assert role["AssignableScopes"] == [f"/subscriptions/{SUBSCRIPTION}"]
        assert len({*role["Actions"]}) == len(role["Actions"])


def test_a_worker_may_end_machines_and_do_nothing_else_to_them() -> None:
    actions = roles()["worker"]["Actions"]
    beyond = [each for each in actions if not each.startswith("Microsoft.Storage/")]
    assert beyond == ["Microsoft.Compute/virtualMachines/delete"]
    assert not [each for each in actions if "*" in each]


# Permissions as Azure reads them


def test_a_permission_holds_by_pattern_in_any_case_less_what_is_taken_out() -> None:
    wanted_ones = ("Microsoft.Compute/skus/read", "Microsoft.Compute/disks/delete")
    assert missing(wanted_ones, [{"actions": ["microsoft.compute/*"], "notActions": []}]) == ()
    assert missing(wanted_ones, [{"actions": ["*/read"]}]) == ("Microsoft.Compute/disks/delete",)
    taken = {"actions": ["*"], "notActions": ["Microsoft.Compute/disks/*"]}
    assert missing(wanted_ones, [taken]) == ("Microsoft.Compute/disks/delete",)
    # What one role takes out another may give.
    assert missing(wanted_ones, [taken, {"actions": ["Microsoft.Compute/disks/delete"]}]) == ()
    assert missing(wanted_ones, []) == wanted_ones
    # A dot is a dot.
    assert missing(("MicrosoftXCompute/skus/read",), [{"actions": ["Microsoft.Compute/skus/read"]}]) != ()


def test_a_worker_needs_less_than_the_controller() -> None:
    role = roles()["controller"]
    needed = worker_queue_allowed(AzureSettings())
    assert set(needed.actions) < set(role["Actions"])
    assert set(needed.data_actions) == set(role["DataActions"])
