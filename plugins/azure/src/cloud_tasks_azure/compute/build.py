"""The body of a machine's creation: the request and the settings, in the API's own words. Pure.

Invariants, each with a test:

1. Everything that a machine is made of goes with it: boot disk, network interface and address have the option to be
   deleted, and carry its tags.
2. A spot machine that is taken away is deleted, never left deallocated; and its price is capped by nothing but the
   on-demand price ("Use Azure Spot Virtual Machines": maxPrice -1).
3. No machine has a password, and none can be logged in to unless a key was given.
"""

from __future__ import annotations

import base64
from typing import Any

from cloud_tasks.model import LaunchRequest, Purchase
from cloud_tasks_azure.compute.disks import disk_gb
from cloud_tasks_azure.compute.tags import address_name, disk_name, instance_name, interface_name, tags_of
from cloud_tasks_azure.compute.zones import location_of, zone_number
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["NETWORK_API_VERSION", "machine_body"]

NETWORK_API_VERSION = "2022-11-01"
"""Of the interfaces that a machine's creation makes along with it; the first versions had no tags for them."""


def machine_body(
    request: LaunchRequest,
    settings: AzureSettings,
    *,
    image: dict[str, str],
    subnet: str,
    security_group: str | None,
    custom_data: bytes,
    public_key: str,
) -> dict[str, Any]:
    """What ``virtualMachines`` is sent.

    Args:
        image: A reference, as `image_reference` makes it.
        subnet: A resource id; as is ``security_group``.
        public_key: In OpenSSH's form.
    """
    name = instance_name(request)
    tags = tags_of(request)
    number = zone_number(request.offer.zone)
    properties: dict[str, Any] = {
        "hardwareProfile": {"vmSize": request.offer.instance_type.name},
        "storageProfile": {
            "imageReference": image,
            "osDisk": {
                "name": disk_name(name),
                "createOption": "FromImage",
                "deleteOption": "Delete",
                "diskSizeGB": disk_gb(request.offer.boot_disk),
                "managedDisk": {"storageAccountType": request.offer.boot_disk.disk_type},
            },
        },
        "osProfile": {
            "computerName": name,
            "adminUsername": settings.admin_username,
            "customData": base64.b64encode(custom_data).decode(),
            "linuxConfiguration": _linux(settings, public_key),
        },
        "networkProfile": _network(settings, name, tags, subnet, security_group),
        "diagnosticsProfile": {"bootDiagnostics": {"enabled": True}},
    }
    if request.offer.purchase is Purchase.SPOT:
        properties |= {"priority": "Spot", "evictionPolicy": "Delete", "billingProfile": {"maxPrice": -1}}
    body: dict[str, Any] = {"location": location_of(request.offer.zone), "tags": tags, "properties": properties}
    if number is not None:
        body["zones"] = [number]
    if settings.managed_identity == "system":
        body["identity"] = {"type": "SystemAssigned"}
    elif settings.managed_identity is not None:
        body["identity"] = {"type": "UserAssigned", "userAssignedIdentities": {settings.managed_identity: {}}}
    return body


def _linux(settings: AzureSettings, public_key: str) -> dict[str, Any]:
    path = f"/home/{settings.admin_username}/.ssh/authorized_keys"
    return {
        "disablePasswordAuthentication": True,
        "ssh": {"publicKeys": [{"path": path, "keyData": public_key}]},
    }


def _network(
    settings: AzureSettings, name: str, tags: dict[str, str], subnet: str, security_group: str | None
) -> dict[str, Any]:
    address: dict[str, Any] = {"name": "primary", "properties": {"primary": True, "subnet": {"id": subnet}}}
    if settings.public_address:
        address["properties"]["publicIPAddressConfiguration"] = {
            "name": address_name(name),
            "tags": tags,
            "sku": {"name": "Standard"},
            "properties": {"deleteOption": "Delete", "publicIPAllocationMethod": "Static"},
        }
    interface: dict[str, Any] = {
        "name": interface_name(name),
        "tags": tags,
        "properties": {"primary": True, "deleteOption": "Delete", "ipConfigurations": [address]},
    }
    if security_group is not None:
        interface["properties"]["networkSecurityGroup"] = {"id": security_group}
    return {"networkApiVersion": NETWORK_API_VERSION, "networkInterfaceConfigurations": [interface]}
