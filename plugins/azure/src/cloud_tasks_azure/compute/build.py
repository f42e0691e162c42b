"""Request body of a VM's creation, from launch request and settings. Pure.

Invariants, each with a test:

1. Boot disk, network interface and public address are deleted with the VM and carry its tags.
2. An evicted spot VM is deleted, never left deallocated. It is evicted before its price exceeds the maximum of its
   request, without one the on-demand price ("Use Azure Spot Virtual Machines": maxPrice -1).
3. No VM has a password, and login is impossible unless a key is configured.
"""

from __future__ import annotations

import base64
from decimal import ROUND_CEILING, Decimal
from typing import Any

from cloud_tasks.model import LaunchRequest, ProvisioningModel
from cloud_tasks_azure.compute.disks import disk_gb
from cloud_tasks_azure.compute.image_resolver import BootImage
from cloud_tasks_azure.compute.tags import address_name, disk_name, instance_name, interface_name, tags_of
from cloud_tasks_azure.compute.zones import location_of, zone_number
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["NETWORK_API_VERSION", "vm_body"]

NETWORK_API_VERSION = "2022-11-01"
"""API version of the network interfaces created with a VM; earlier versions do not support their tags."""


def vm_body(
    request: LaunchRequest,
    settings: AzureSettings,
    *,
    image: BootImage,
    subnet: str,
    security_group: str | None,
    custom_data: bytes,
    public_key: str,
) -> dict[str, Any]:
    """Return the body of a ``virtualMachines`` request.

    Args:
        subnet: Resource id.
        security_group: Resource id.
        public_key: In OpenSSH format.
    """
    name = instance_name(request)
    tags = {**settings.tags, **tags_of(request)}
    number = zone_number(request.offer.zone)
    properties: dict[str, Any] = {
        "hardwareProfile": {"vmSize": request.offer.instance_type.name},
        "storageProfile": {
            "imageReference": image.reference,
            "osDisk": {
                "name": disk_name(name),
                "createOption": "FromImage",
                "deleteOption": "Delete",
                "diskSizeGB": max(disk_gb(request.offer.boot_disk), image.min_disk_gb or 0),
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
    if request.offer.provisioning_model is ProvisioningModel.SPOT:
        properties |= {
            "priority": "Spot",
            "evictionPolicy": "Delete",
            "billingProfile": {"maxPrice": _max_price(request)},
        }
    body: dict[str, Any] = {"location": location_of(request.offer.zone), "tags": tags, "properties": properties}
    if image.plan:
        body["plan"] = image.plan
    if number is not None:
        body["zones"] = [number]
    if settings.managed_identity == "system":
        body["identity"] = {"type": "SystemAssigned"}
    elif settings.managed_identity is not None:
        body["identity"] = {"type": "UserAssigned", "userAssignedIdentities": {settings.managed_identity: {}}}
    return body


def _max_price(request: LaunchRequest) -> float:
    """Return ``maxPrice``, in US dollars with up to five decimal places."""
    limit = request.max_price_per_hour
    return -1 if limit is None else float(limit.usd.quantize(Decimal("0.00001"), ROUND_CEILING))


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
