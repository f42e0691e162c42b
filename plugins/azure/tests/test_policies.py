"""Role definitions: they allow every call of the plugin, and nothing that the settings make unnecessary."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import fsspec
import pytest
from arm_fake import SUBSCRIPTION, ArmFake
from arm_records import Times
from arm_requests import opened, wanted
from azurite import Azurite
from storage_faults import StorageFaults

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Architecture
from cloud_tasks.plugin import CheckContext, ImageLookup, ImageMaker, QueueContext, StagingContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import eventually
from cloud_tasks_azure.doctor_staging import check_staging
from cloud_tasks_azure.permissions import compute_actions, missing, worker_queue_allowed
from cloud_tasks_azure.queue.account import blob_container
from cloud_tasks_azure.settings import AzureSettings

IDENTITY = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/w"
)
SUBNET = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/n/subnets/s"


def roles(context: CheckContext | None = None, **settings: Any) -> dict[str, Any]:
    backend = Registry(only=["azure"]).compute("azure")
    assert backend.policies is not None
    chosen = AzureSettings(subscription_id=SUBSCRIPTION, **settings)
    return {name: json.loads(text) for name, text in backend.policies(chosen, context or CheckContext()).items()}


# Calls of Resource Manager

_VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "DELETE": "delete"}
_RESOURCE = re.compile(
    r"/subscriptions/[^/]+(?:/resourceGroups/[^/]+)?/providers/(?P<space>[\w.]+)/(?P<rest>.+)", re.IGNORECASE
)


def action_of(method: str, path: str) -> str:
    """Return the action that allows a request ("Understand Azure role definitions": provider, kind, verb)."""
    if re.fullmatch(r"/subscriptions/[^/]+/providers/[^/]+", path):
        return "Microsoft.Resources/subscriptions/providers/read"
    if match := _RESOURCE.fullmatch(path):
        parts = match["rest"].split("/")
        if parts[0] == "locations":
            # locations/eastus/usages, locations/eastus/operations/1234
            return f"{match['space']}/locations/{'/'.join(parts[2::2])}/read"
        kinds = "/".join(parts[0::2])
        if method == "POST":
            return f"{match['space']}/{parts[0]}/{parts[2]}/action"
        return f"{match['space']}/{kinds}/{_VERBS[method]}"
    rest = re.sub(r"^/subscriptions/[^/]+", "", path)
    if re.fullmatch(r"/resourceGroups/[^/]+/resources", rest, re.IGNORECASE):
        return "Microsoft.Resources/subscriptions/resourcegroups/resources/read"
    return f"Microsoft.Resources/subscriptions/{rest.split('/')[1]}/{_VERBS[method]}"


def called_actions(fake: ArmFake) -> set[str]:
    return {action_of(method, path) for method, path in fake.server.calls if not path.startswith("/fake/")}


def lower(actions: Iterable[str]) -> set[str]:
    return {action.lower() for action in actions}


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[ArmFake]:
    with ArmFake(tmp_path / "arm", times=Times(guest_shutdown=0.0)) as fake:
        yield fake


def live(fake: ArmFake, **settings: Any) -> None:
    """Make every call for VMs and images: list, launch, read, terminate and clean up, including what one left."""
    with opened(fake, **settings) as compute:
        compute.regions()
        compute.images()
        assert isinstance(compute, ImageLookup)
        compute.find_image("Debian:debian-12:12-gen2:latest", Architecture.X86_64)
        compute.instance_types()
        request = wanted()
        compute.headroom(request.offer)
        started = compute.launch(request)
        compute.launch(request)
        compute.console_log(started.instance_id)
        for part in fake.cloud.find(lambda each: each["type"].rpartition("/")[2] in _PARTS):
            part["properties"]["deleteOption"] = "Detach"
        eventually(lambda: compute.instances("job"))
        assert isinstance(compute, ImageMaker)
        fake.cloud.images.failure = "The copy failed."
        with pytest.raises(ProviderError, match="The copy failed"):
            compute.make_image(started.instance_id, "moon")
        assert compute.find_own_image("moon") is None
        compute.make_image(started.instance_id, "moon")
        compute.terminate([started.instance_id])
    eventually(lambda: [each for each in fake.state()["resources"] if not each.startswith(_IMAGES)] == [])


_PARTS = ("disks", "networkInterfaces", "publicIPAddresses")
_IMAGES = ("galleries/", "images/", "versions/")


def test_controller_role_allows_every_resource_manager_call(arm: ArmFake) -> None:
    live(arm, public_address=True)
    called, allowed = called_actions(arm), roles(public_address=True)["controller"]["Actions"]
    assert lower(called) <= lower(allowed)
    assert lower(called) >= {
        "microsoft.compute/virtualmachines/write",
        "microsoft.compute/virtualmachines/retrievebootdiagnosticsdata/action",
        "microsoft.compute/virtualmachines/generalize/action",
        "microsoft.compute/galleries/images/versions/delete",
        "microsoft.compute/disks/delete",
        "microsoft.network/publicipaddresses/delete",
        "microsoft.resources/subscriptions/resourcegroups/delete",
    }


def test_controller_role_allows_every_call_in_existing_group(arm: ArmFake) -> None:
    arm.cloud.put_group("jobs", {"location": "eastus"})
    live(arm, resource_group="jobs")
    called, allowed = called_actions(arm), lower(roles(resource_group="jobs")["controller"]["Actions"])
    assert lower(called) <= allowed
    assert "microsoft.network/virtualnetworks/delete" in lower(called)


def test_controller_role_has_no_unused_action(arm: ArmFake) -> None:
    live(arm, public_address=True)
    arm.cloud.put_group("jobs", {"location": "eastus"})
    live(arm, public_address=True, resource_group="jobs")
    idle = lower(roles(public_address=True)["controller"]["Actions"]) - lower(called_actions(arm))
    # Checked by Azure at a VM's creation, used by the doctor only, or reads that belong to writes.
    assert idle == {
        "microsoft.authorization/permissions/read",
        "microsoft.compute/disks/write",
        "microsoft.network/locations/operationresults/read",
        "microsoft.network/locations/operations/read",
        "microsoft.network/networkinterfaces/join/action",
        "microsoft.network/networkinterfaces/write",
        "microsoft.network/networksecuritygroups/join/action",
        "microsoft.network/publicipaddresses/join/action",
        "microsoft.network/publicipaddresses/write",
        "microsoft.network/virtualnetworks/subnets/join/action",
        "microsoft.resources/providers/read",
    } | {each for each in idle if each.startswith("microsoft.storage/")}


def test_doctor_does_not_demand_the_permissions_of_image_build() -> None:
    optional = set(roles()["controller"]["Actions"]) - set(compute_actions(AzureSettings()))
    assert {each for each in optional if each.startswith("Microsoft.Compute/")} == {
        *(f"Microsoft.Compute/galleries/{each}" for each in ("read", "write")),
        *(f"Microsoft.Compute/galleries/images/{each}" for each in ("delete", "write")),
        *(f"Microsoft.Compute/galleries/images/versions/{each}" for each in ("delete", "write")),
        *(f"Microsoft.Compute/virtualMachines/{each}/action" for each in ("deallocate", "generalize")),
    }


def test_controller_role_excludes_actions_that_settings_make_unnecessary() -> None:
    plain = set(roles()["controller"]["Actions"])
    assert not [each for each in plain if "ManagedIdentity" in each or each.endswith("publicIPAddresses/write")]
    inside = set(roles(resource_group="jobs", subnet=SUBNET, managed_identity="system")["controller"]["Actions"])
    assert not [each for each in inside if "resourceGroups/write" in each or "resourceGroups/delete" in each]
    assert not [each for each in inside if "virtualNetworks/write" in each or "virtualNetworks/delete" in each]
    assert "Microsoft.Network/virtualNetworks/subnets/join/action" in inside
    # Polls of the deletion of an interface.
    assert {f"Microsoft.Network/locations/{each}/read" for each in ("operations", "operationResults")} <= inside
    named = set(roles(managed_identity=IDENTITY)["controller"]["Actions"])
    assert "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action" in named - plain


# Calls of storage


_QUEUES = "Microsoft.Storage/storageAccounts/queueServices/queues"


def queue_action(method: str, path: str) -> str:
    """Return the action that allows a call of the Queue service ("Permissions for calling data operations")."""
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
    raise AssertionError(f"{method} {path} is an unknown call")


_CONTAINERS = "Microsoft.Storage/storageAccounts/blobServices/containers"


def blob_action(method: str, path: str) -> str:
    """Return the action that allows a call of the Blob service."""
    match method, [part for part in path.split("/")[2:] if part]:
        case "PUT", [_]:
            return f"{_CONTAINERS}/write"
        case "HEAD", [_]:
            return f"{_CONTAINERS}/read"
        case "HEAD", _:
            return f"{_CONTAINERS}/blobs/read"
        case "GET", _:
            # Listing the blobs of a container requires no permission for the container itself.
            return f"{_CONTAINERS}/blobs/read"
        case "PUT", [_, _, *_]:
            return f"{_CONTAINERS}/blobs/write"
        case "DELETE", [_, _, *_]:
            return f"{_CONTAINERS}/blobs/delete"
    raise AssertionError(f"{method} {path} is an unknown call")


class RecordedAccount:
    """Proxies of an account's services that record the required actions."""

    def __init__(self, azurite: Azurite) -> None:
        self.queues, self.blobs = StorageFaults(azurite.queue_endpoint), StorageFaults(azurite.blob_endpoint)
        self.connection_string = azurite.connection_string.replace(
            azurite.queue_endpoint, self.queues.endpoint
        ).replace(azurite.blob_endpoint, self.blobs.endpoint)

    def called(self) -> set[str]:
        """Return the actions since the last call."""
        found = {queue_action(*call) for call in self.queues.server.calls}
        found |= {blob_action(*call) for call in self.blobs.server.calls}
        self.queues.server.calls.clear()
        self.blobs.server.calls.clear()
        return found


def test_roles_allow_every_storage_call(azurite: Azurite) -> None:
    account = RecordedAccount(azurite)
    settings = AzureSettings(
        subscription_id=SUBSCRIPTION, connection_string=account.connection_string, oversize_container="roles"
    )
    context = QueueContext(name="tasks", job_id="job", lease=timedelta(seconds=30))
    backend = Registry(only=["azure"]).queue("azure")
    with account.queues.server.serving(), account.blobs.server.serving(), backend.open(settings, context) as owner:
        owner.create()
        by_owner = account.called()
        with backend.open(settings, context) as worker:
            worker.send([b"one", b"x" * 100_000])
            first, second = (worker.receive(1, wait=timedelta(seconds=5))[0] for _ in range(2))
            worker.extend([first.lease_id], lease=timedelta(seconds=60))
            worker.release([first.lease_id])
            worker.ack([second.lease_id])
        by_worker = account.called()
        owner.send([b"x" * 100_000])
        owner.depth()
        owner.purge()
        owner.delete()
        by_owner |= account.called()
    found = roles()
    allowed = {name: {*role["Actions"], *role["DataActions"]} for name, role in found.items()}
    assert by_worker <= allowed["worker"]
    assert f"{_QUEUES}/read" not in allowed["worker"]
    assert by_owner <= allowed["controller"]
    assert {f"{_QUEUES}/messages/process/action", f"{_CONTAINERS}/blobs/write", f"{_CONTAINERS}/write"} <= by_worker
    assert f"{_QUEUES}/delete" in by_owner - allowed["worker"]


def test_roles_include_blobs_only_with_oversize_container() -> None:
    assert "blobs/read" in json.dumps(roles())
    for role in roles(oversize_container="").values():
        assert "blob" not in json.dumps(role)


@pytest.mark.parametrize(("queue", "settings"), [("azure", {"oversize_container": ""}), ("azure-servicebus", {})])
def test_roles_include_blobs_of_results_and_code(queue: str, settings: dict[str, str]) -> None:
    stores, code = ("az://results/x",), ("abfs://code@a.dfs.core.windows.net/y.tar.gz", "https://example.org/z")
    read, write = (f"{_CONTAINERS}/blobs/{verb}" for verb in ("read", "write"))

    def blobs(context: CheckContext) -> dict[str, set[str]]:
        found = roles(attrs.evolve(context, queue=queue), **settings)
        return {name: {each for each in role["DataActions"] if each in (read, write)} for name, role in found.items()}

    assert blobs(CheckContext(stores=("s3://results",))) == {"controller": set(), "worker": set()}
    assert blobs(CheckContext(stores=stores)) == {"controller": {read, write}, "worker": {read, write}}
    assert blobs(CheckContext(staging="az://staging/x")) == {"controller": {read, write}, "worker": {read}}
    assert blobs(CheckContext(downloads=code)) == {"controller": {read, write}, "worker": {read}}


def test_service_bus_roles_exclude_storage() -> None:
    found = roles(CheckContext(queue="azure-servicebus"))
    assert "Microsoft.Storage" not in json.dumps(found)
    sends = "Microsoft.ServiceBus/namespaces/messages/send/action"
    assert sends in found["worker"]["DataActions"]
    assert not [each for each in found["worker"]["Actions"] if "ServiceBus" in each]


def test_roles_allow_uploads_to_the_staging_and_its_check(azurite: Azurite, tmp_path: Path) -> None:
    account, url = RecordedAccount(azurite), "az://staged/jobs"
    settings = AzureSettings(
        connection_string=account.connection_string,
        managed_identity="system",
        oversize_container="",
    )
    options = Registry(only=["azure"]).compute("azure").staging_options
    assert options is not None
    (tmp_path / "sent").write_bytes(b"code")
    with account.queues.server.serving(), account.blobs.server.serving():
        with blob_container(settings, "staged", connections=1) as container:
            container.create_container()
        account.called()
        system, prefix = fsspec.core.url_to_fs(url, **options(settings, StagingContext(url=url)))
        with pytest.raises(FileNotFoundError):
            system.info(f"{prefix}/code.gz")
        system.put_file(str(tmp_path / "sent"), f"{prefix}/code.gz")
        check_staging(settings, CheckContext(staging=url))
        used = account.called()
    role = roles(CheckContext(staging=url, queue="azure-servicebus"))["controller"]
    assert f"{_CONTAINERS}/blobs/write" in used
    assert used <= {*role["Actions"], *role["DataActions"]}


def test_roles_of_another_cloud_s_queue_have_no_data_actions() -> None:
    for role in roles(CheckContext(queue="aws")).values():
        assert role["DataActions"] == []
        assert "Microsoft.Storage" not in json.dumps(role)


# Role definitions


def test_roles_have_the_az_format_and_subscription_scope() -> None:
    for role in roles().values():
        assert set(role) == {
            "Name", "IsCustom", "Description", "Actions", "NotActions", "DataActions", "NotDataActions",
            "AssignableScopes",
        }  # fmt: skip
        assert role["AssignableScopes"] == [f"/subscriptions/{SUBSCRIPTION}"]
        assert len({*role["Actions"]}) == len(role["Actions"])


def test_worker_role_can_only_delete_vms() -> None:
    actions = roles()["worker"]["Actions"]
    beyond = [each for each in actions if not each.startswith("Microsoft.Storage/")]
    assert beyond == ["Microsoft.Compute/virtualMachines/delete"]
    assert not [each for each in actions if "*" in each]


# Evaluation of permissions


def test_missing_evaluates_patterns_case_and_exclusions() -> None:
    wanted_ones = ("Microsoft.Compute/skus/read", "Microsoft.Compute/disks/delete")
    assert missing(wanted_ones, [{"actions": ["microsoft.compute/*"], "notActions": []}]) == ()
    assert missing(wanted_ones, [{"actions": ["*/read"]}]) == ("Microsoft.Compute/disks/delete",)
    taken = {"actions": ["*"], "notActions": ["Microsoft.Compute/disks/*"]}
    assert missing(wanted_ones, [taken]) == ("Microsoft.Compute/disks/delete",)
    # An action excluded by one role may be allowed by another.
    assert missing(wanted_ones, [taken, {"actions": ["Microsoft.Compute/disks/delete"]}]) == ()
    assert missing(wanted_ones, []) == wanted_ones
    # A dot in an action is literal.
    assert missing(("MicrosoftXCompute/skus/read",), [{"actions": ["Microsoft.Compute/skus/read"]}]) != ()


def test_worker_permissions_are_a_subset_of_the_controllers() -> None:
    role = roles()["controller"]
    needed = worker_queue_allowed(AzureSettings(), "azure")
    assert set(needed.actions) < set(role["Actions"])
    assert set(needed.data_actions) == set(role["DataActions"])
