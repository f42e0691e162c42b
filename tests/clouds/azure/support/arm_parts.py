"""Resources created with a VM: disk, network interfaces, addresses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from arm_records import VirtualMachine

__all__ = ["parts_of"]


def parts_of(vm: VirtualMachine, facts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the resources; the delete option of each decides what happens when the VM is deleted.

    Args:
        facts: Properties of the disk, from the image.
    """
    vm_properties = vm.resource["properties"]
    disk = vm_properties["storageProfile"]["osDisk"]
    # A disk created from an image inherits the VM's tags.
    part = _part(vm, "Microsoft.Compute/disks", disk, vm.resource.get("tags", {}), disk.get("deleteOption"))
    part["properties"] |= {**facts, "timeCreated": vm.resource["properties"]["timeCreated"]}
    yield {**part, "zones": vm.resource["zones"]} if "zones" in vm.resource else part
    for interface in vm_properties["networkProfile"]["networkInterfaceConfigurations"]:
        properties = interface["properties"]
        addresses = properties["ipConfigurations"]
        part = _part(
            vm,
            "Microsoft.Network/networkInterfaces",
            interface,
            interface.get("tags", {}),
            properties.get("deleteOption"),
        )
        part["properties"]["uses"] = [address["properties"]["subnet"]["id"] for address in addresses]
        yield part
        for address in addresses:
            public = address["properties"].get("publicIPAddressConfiguration")
            if public is not None:
                option = public["properties"].get("deleteOption")
                kind = "Microsoft.Network/publicIPAddresses"
                yield _part(vm, kind, public, public.get("tags", {}), option)


def _part(
    vm: VirtualMachine, kind: str, given: dict[str, Any], tags: dict[str, str], option: str | None
) -> dict[str, Any]:
    group = str(vm.resource["id"]).partition("/providers/")[0]
    return {
        "id": f"{group}/providers/{kind}/{given['name']}",
        "name": given["name"],
        "type": kind,
        "location": vm.resource["location"],
        "tags": dict(tags),
        "managedBy": vm.resource["id"],
        "properties": {"provisioningState": "Succeeded", "deleteOption": option or "Detach"},
    }
