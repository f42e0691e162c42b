"""Listings of virtual machines, and of what they left; consoles."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs
import pytest
from arm_fake import ArmFake
from arm_requests import body_of, detached, offer, opened, remaining, wanted

from cloud_tasks.errors import LaunchRefusedError, NotFoundError, ProviderError, RefusalScope
from cloud_tasks.model import InstanceState, ProvisioningModel
from cloud_tasks.plugin import Compute
from cloud_tasks.testing import eventually
from cloud_tasks_azure.compute import backend
from cloud_tasks_azure.compute.arm import Arm, Operation
from cloud_tasks_azure.compute.listing import list_vms


def deleted_without_its_parts(fake: ArmFake, name: str) -> None:
    """Delete a VM as an eviction would; its resources are left."""
    detached(fake, name)
    fake.cloud.delete_machine(body_of(fake, name)["id"], forced=True)
    eventually(lambda: name not in remaining(fake)[0])


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


def test_console_log_of_a_vm_that_powered_itself_off_is_there_until_it_is_deleted(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted(startup_script="#!/bin/bash\necho no package\nshutdown -h now\n")).instance_id
        eventually(lambda: states(compute) == {name: InstanceState.STOPPED})
        assert "no package" in compute.console_log(name)
        compute.terminate([name])
        # An empty log would mean that it printed nothing.
        with pytest.raises(NotFoundError, match="its VM no longer exists"):
            compute.console_log(name)


def test_console_log_of_unknown_vm_is_empty_and_errors_hide_the_signature(fake: ArmFake) -> None:
    with opened(fake) as compute:
        assert compute.console_log("unknown") == ""
        name = compute.launch(wanted()).instance_id
        eventually(lambda: "started" in compute.console_log(name))
        fake.cloud.console = lambda name: 1 / 0  # type: ignore[method-assign,assignment,return-value]
        with pytest.raises(ProviderError) as caught:
            compute.console_log(name)
    assert "very-secret" not in f"{caught.value}{caught.value.__cause__}"


def test_listing_returns_the_provisioning_model_and_disk_type(fake: ArmFake) -> None:
    with opened(fake) as compute:
        compute.launch(wanted(offer(spot=True)))
        (found,) = compute.instances("job")
    assert (found.provisioning_model, found.boot_disk_type) == (ProvisioningModel.SPOT, "StandardSSD_LRS")
