"""State of the Resource Manager fake: VMs and their resources through creation, deletion, eviction and time.

Invariants, each with a test in `tests/clouds/azure/test_arm_fake.py`:

1. A creation with ``If-None-Match`` changes nothing if the name is taken.
2. A deleted VM has no processes; its resources are deleted with it only if their delete option says so.
3. Quotas hold; a launch without capacity leaves a failed VM, which exists until it is deleted.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
from arm_catalog import LOCATIONS, QUOTAS
from arm_checks import check_quota, check_vm
from arm_guests import Guests
from arm_images import OwnImages, facts_of
from arm_parts import parts_of
from arm_records import ArmError, Operation, StockOut, Times, VirtualMachine, api_time
from cloud_state import CloudState, most_at_once

__all__ = ["Cloud", "Creation"]


@attrs.define(kw_only=True)
class Creation:
    """One creation of a VM, with the times of its operation."""

    name: str
    zone: str
    size: str
    spot: bool
    began: float
    ended: float | None = None
    outcome: str = ""
    """``running``, or the error code."""


class Cloud(CloudState[Times, StockOut]):
    """One subscription.

    Args:
        folder: Parent of the VMs' folders; created.
        guest_environment: Environment variables of every VM, besides the address of its metadata service.
    """

    def __init__(
        self,
        folder: Path,
        *,
        subscription: str,
        times: Times | None = None,
        guest_environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__("arm", times=times or Times(), guest_environment=guest_environment)
        self.subscription = subscription
        self.quotas: dict[str, dict[str, int]] = {location: dict(QUOTAS) for location in LOCATIONS}
        self.groups: dict[str, dict[str, Any]] = {}
        self.resources: dict[str, dict[str, Any]] = {}
        """Networks, security groups, interfaces, addresses and disks, by id in lower case."""
        self.machines: dict[str, VirtualMachine] = {}
        """VMs by id in lower case."""
        self.max_addresses = 20
        """Limit of public addresses in a region."""
        self.operations: dict[str, Operation] = {}
        self.creations: list[Creation] = []
        self.evicted: list[str] = []
        self.approved: list[str] = []
        """VMs whose guest approved the eviction."""
        self._guests = Guests(folder)
        self.images = OwnImages(self)

    def quotas_of(self, place: str) -> dict[str, int]:
        return self.quotas[place]

    def _hosted(self) -> Iterable[VirtualMachine]:
        return self.machines.values()

    # -- groups --

    def put_group(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            known = self.groups.get(name.lower())
            if known is not None and known["properties"]["provisioningState"] == "Deleting":
                raise ArmError(409, "ResourceGroupBeingDeleted", f"The resource group '{name}' is being deleted.")
            if known is not None and known["location"] != body["location"]:
                raise ArmError(409, "InvalidResourceGroupLocation", f"Invalid resource group location for '{name}'.")
            self.groups[name.lower()] = {
                "id": f"/subscriptions/{self.subscription}/resourceGroups/{name}",
                "name": name,
                "type": "Microsoft.Resources/resourceGroups",
                "location": body["location"],
                "tags": dict(body.get("tags") or {}),
                "properties": {"provisioningState": "Succeeded"},
            }
            return self.groups[name.lower()]

    def group(self, name: str) -> dict[str, Any]:
        known = self.groups.get(name.lower())
        if known is None:
            raise ArmError(404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found.")
        return known

    def delete_group(self, name: str) -> Operation:
        with self.lock:
            group = self.group(name)
            group["properties"]["provisioningState"] = "Deleting"
            operation = self._operation("delete", str(group["id"]).lower())
            within = f"{str(group['id']).lower()}/"
            machines = [each for key, each in self.machines.items() if key.startswith(within)]
        for vm in machines:
            self._begin_end(vm, 0.0)

        def finish() -> None:
            with self.lock:
                if any(key.startswith(within) for key in self.machines):
                    self.timeline.after(0.02, finish)
                    return
                for key in [key for key in self.resources if key.startswith(within)]:
                    del self.resources[key]
                self.groups.pop(name.lower(), None)
                self._finish(operation)

        self.timeline.after(self.times.group, finish)
        return operation

    # -- networks and other resources --

    def put(self, resource_id: str, kind: str, body: dict[str, Any]) -> tuple[dict[str, Any], Operation]:
        """Create or update a network or a security group."""
        with self.lock:
            self._check_group(resource_id)
            resource = {**body, "id": resource_id, "name": resource_id.rpartition("/")[2], "type": kind}
            resource["properties"] = {**body.get("properties", {}), "provisioningState": "Succeeded"}
            for subnet in resource["properties"].get("subnets", []):
                subnet["id"] = f"{resource_id}/subnets/{subnet['name']}"
            self.resources[resource_id.lower()] = resource
            operation = self._operation("create", resource_id.lower())
        self.timeline.after(self.times.network, lambda: self._finish(operation))
        return resource, operation

    def put_plain(self, resource_id: str, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create or update a resource of another provider at once."""
        self._check_group(resource_id)
        self.resources[resource_id.lower()] = {**body, "id": resource_id, "name": resource_id.rpartition("/")[2]}
        self.resources[resource_id.lower()]["type"] = kind
        return self.resources[resource_id.lower()]

    def _check_group(self, resource_id: str) -> None:
        group = self.group(resource_id.split("/")[4])
        if group["properties"]["provisioningState"] == "Deleting":
            raise ArmError(409, "ResourceGroupBeingDeleted", f"The group '{group['name']}' is being deleted.")

    def delete(self, resource_id: str) -> Operation | None:
        """Delete a resource; None if it does not exist."""
        key = resource_id.lower()
        with self.lock:
            resource = self.resources.get(key)
            if resource is None:
                return None
            if resource.get("managedBy"):
                raise ArmError(409, "OperationNotAllowed", f"{resource['name']} is in use by {resource['managedBy']}.")
            if any(key in str(other["properties"].get("uses", "")).lower() for other in self.resources.values()):
                raise ArmError(400, "InUseSubnetCannotBeDeleted", f"{resource['name']} is in use.")
            operation = self._operation("delete", key)
            if resource["name"] in self.undeletable:
                self._finish(operation, ArmError(500, "InternalServerError", "An internal error occurred."))
                return operation
            del self.resources[key]
        self.timeline.after(self.times.network, lambda: self._finish(operation))
        return operation

    # -- VMs --

    def create(self, resource_id: str, body: dict[str, Any], *, must_be_new: bool) -> tuple[VirtualMachine, Operation]:
        key, name = resource_id.lower(), resource_id.rpartition("/")[2]
        with self.lock:
            if key in self.machines:
                if must_be_new:
                    raise ArmError(412, "PreconditionFailed", "The precondition given in the request was not met.")
                raise ArmError(409, "PropertyChangeNotAllowed", "Changing property 'customData' is not allowed.")
            self._check_group(resource_id)
            size_spec = check_vm(self, name, body)
            vm = VirtualMachine(
                resource={
                    **body,
                    "id": resource_id,
                    "name": name,
                    "type": "Microsoft.Compute/virtualMachines",
                    "properties": {
                        **body["properties"],
                        "provisioningState": "Creating",
                        "vmId": str(uuid.uuid4()),
                        "timeCreated": api_time(self.timeline.now()),
                    },
                },
                family=size_spec.family,
                vcpus=size_spec.vcpus,
                created=self.timeline.now(),
            )
            rule = self._stock_out(vm)
            if rule is not None and rule.at_once:
                raise ArmError(409, rule.code, rule.message)
            check_quota(self, body, size_spec)
            operation = self._operation("create", key)
            record = Creation(name=name, zone=vm.zone, size=vm.size, spot=vm.spot, began=operation.began)
            self.creations.append(record)
            self.machines[key] = vm
            for part in parts_of(vm, facts_of(self, vm)):
                vm.parts.append(part["id"].lower())
                self.resources[part["id"].lower()] = part
        self.timeline.after(self.times.provision, lambda: self._provisioned(vm, operation, record))
        return vm, operation

    def _stock_out(self, vm: VirtualMachine) -> StockOut | None:
        provisioning_model = "spot" if vm.spot else "on-demand"
        return next((rule for rule in self.stock_outs if rule.hits(vm.zone, vm.size, provisioning_model)), None)

    def _provisioned(self, vm: VirtualMachine, operation: Operation, record: Creation) -> None:
        with self.lock:
            if vm.ending:
                self._finish(operation, ArmError(409, "OperationPreempted", "The operation has been preempted."))
                return
            rule = self._stock_out(vm)
            record.ended, record.outcome = self.timeline.now(), rule.code if rule is not None else "running"
            if rule is not None:
                vm.state, vm.power = "Failed", ""
                self._finish(operation, ArmError(409, rule.code, rule.message))
                return
            self._guests.boot(
                vm,
                next(self._numbers),
                self.guest_environment,
                power_off=lambda: self._powered_off(vm),
                approve=lambda: self._approved(vm),
                root=self.images.root_of(vm),
            )
            vm.state, vm.provisioned = "Succeeded", self.timeline.now()
            self._finish(operation)

    def delete_machine(self, resource_id: str, *, forced: bool) -> Operation | None:
        key = resource_id.lower()
        with self.lock:
            vm = self.machines.get(key)
            if vm is None:
                return None
            operation = self._operation("delete", key)
            if vm.name in self.undeletable:
                self._finish(operation, ArmError(500, "InternalExecutionError", "An internal error occurred."))
                return operation
        self._begin_end(vm, 0.0 if forced else self.times.guest_shutdown)
        self._when_gone(vm, operation)
        return operation

    def _when_gone(self, vm: VirtualMachine, operation: Operation) -> None:
        """Finish the operation when the VM is deleted."""
        with self.lock:
            if self.machines.get(str(vm.resource["id"]).lower()) is not vm:
                self._finish(operation)
                return
        self.timeline.after(0.02, lambda: self._when_gone(vm, operation))

    def _begin_end(self, vm: VirtualMachine, grace: float) -> None:
        with self.lock:
            if vm.ending and vm.state == "Deleting":
                return
            vm.ending, vm.state = True, "Deleting"
        self._enders.submit(self._end, vm, grace)

    def _end(self, vm: VirtualMachine, grace: float) -> None:
        self._stop_guest(vm, grace)
        self.timeline.after(self.times.delete, lambda: self._forget(vm))

    def evict(self, name: str) -> None:
        """Evict a spot VM: scheduled event, then deletion, at once if the guest approves."""
        with self.lock:
            vm = next(each for each in self.machines.values() if each.name == name)
            if vm.ending or vm.metadata is None:
                return
            vm.ending = True
            self.evicted.append(name)
            vm.metadata.announce(seconds=self.times.preemption)
        self.timeline.after(self.times.preemption, lambda: self._begin_end(vm, 0.0))

    def _approved(self, vm: VirtualMachine) -> None:
        with self.lock:
            self.approved.append(vm.name)
        self._begin_end(vm, 0.5)

    def _powered_off(self, vm: VirtualMachine) -> None:
        with self.lock:
            if vm.ending:
                return
            vm.power = "stopping"
        self._stop_guest(vm, self.times.guest_shutdown)
        with self.lock:
            # Stopped, not deallocated: still billed.
            vm.power = "stopped"

    def deallocate(self, vm: VirtualMachine) -> Operation:
        with self.lock:
            operation = self._operation("deallocate", str(vm.resource["id"]).lower())
            if vm.guest is not None and (vm.guest.folder / "root").exists():
                vm.root = vm.guest.folder / "root"

        def finish() -> None:
            self._stop_guest(vm, self.times.guest_shutdown)
            with self.lock:
                vm.power = "deallocated"
            self._finish(operation)

        self._enders.submit(finish)
        return operation

    def _forget(self, vm: VirtualMachine) -> None:
        with self.lock:
            key = str(vm.resource["id"]).lower()
            if self.machines.get(key) is vm:
                del self.machines[key]
            for part in vm.parts:
                resource = self.resources.get(part)
                if resource is None:
                    continue
                resource["managedBy"] = ""
                if resource["properties"]["deleteOption"] == "Delete":
                    del self.resources[part]

    # -- operations --

    def _operation(self, kind: str, target: str) -> Operation:
        operation = Operation(name=str(uuid.uuid4()), kind=kind, target=target, began=self.timeline.now())
        self.operations[operation.name] = operation
        return operation

    def _finish(self, operation: Operation, problem: ArmError | None = None) -> None:
        with self.lock:
            operation.ended, operation.problem = self.timeline.now(), problem

    # -- inspection --

    def console(self, name: str) -> str:
        return self._guests.console(name)

    def find(self, matches: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Return all matching resources, VMs included."""
        with self.lock:
            every = [vm.resource for vm in self.machines.values()]
            return [each for each in (*every, *self.resources.values()) if matches(each)]

    def max_concurrent_creations(self) -> int:
        """Return the maximum number of concurrent creations."""
        with self.lock:
            return most_at_once(self.creations)
