"""Ends of virtual machines: by the controller, by themselves, by Azure."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import attrs
import pytest
from arm_fake import SUBSCRIPTION, ArmFake
from arm_requests import body_of, detached, offer, opened, remaining, wanted
from fake_server import Answer, FakeServer

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceState
from cloud_tasks.testing import eventually
from cloud_tasks_azure.compute import terminate
from cloud_tasks_azure.compute.arm import Arm
from cloud_tasks_azure.settings import AzureSettings


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


def test_terminate_deletes_resources_left_by_the_vm(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted()).instance_id
        detached(fake, name)
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
