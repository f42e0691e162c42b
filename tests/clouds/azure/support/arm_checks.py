"""Validation of requests by the Resource Manager fake."""

from __future__ import annotations

import base64
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from arm_catalog import IMAGES, LOCATIONS, SIZES, SizeSpec
from arm_records import ArmError

if TYPE_CHECKING:
    from arm_cloud import Cloud

__all__ = ["check_quota", "check_vm", "usage"]

_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9]{0,62}[A-Za-z0-9])?")
_TAG_KEY = re.compile(r"[^<>%&\\?/]{1,512}")


def check_vm(cloud: Cloud, name: str, body: dict[str, Any]) -> SizeSpec:
    """Return the size of a valid creation. Raises `ArmError`."""
    if not _NAME.fullmatch(name):
        raise ArmError(400, "InvalidParameter", f"The virtual machine name '{name}' is invalid.")
    location, numbers = body["location"], body.get("zones") or []
    if location not in LOCATIONS:
        message = f"The provided location '{location}' is not available for resource type 'virtualMachines'."
        raise ArmError(400, "LocationNotAvailableForResourceType", message)
    properties = body["properties"]
    size = properties["hardwareProfile"]["vmSize"]
    shape = SIZES.get(size)
    if shape is None:
        raise ArmError(400, "InvalidParameter", f"The value {size} provided for the VM size is not valid.")
    for number in numbers:
        if number not in LOCATIONS[location][1]:
            message = f"The zone(s) '{number}' for resource is not supported in location '{location}'."
            raise ArmError(400, "AvailabilityZoneNotSupported", message)
    restricted = shape.restricted or any(n not in shape.zones or n in shape.restricted_zones for n in numbers)
    if restricted:
        message = f"The requested size {size} is currently not available in location '{location}' for subscription."
        raise ArmError(409, "SkuNotAvailable", message)
    for key, value in body.get("tags", {}).items():
        if not _TAG_KEY.fullmatch(key) or len(value) > 256:
            raise ArmError(400, "InvalidTagNameCharacters", f"The tag '{key}' is invalid.")
    if shape.confidential and "securityProfile" not in properties:
        message = f"The VM size '{size}' is not supported for creation of VMs with '<NULL>' security type."
        raise ArmError(400, "BadRequest", message)
    cloud.images.check(shape, location, properties["storageProfile"])
    _check_image(shape, properties["storageProfile"], body.get("plan"))
    _check_login(properties["osProfile"])
    for interface in properties["networkProfile"]["networkInterfaceConfigurations"]:
        for address in interface["properties"]["ipConfigurations"]:
            _check_subnet(cloud, address["properties"]["subnet"]["id"])
    return shape


def _check_image(shape: SizeSpec, storage: dict[str, Any], plan: dict[str, str] | None) -> None:
    image = storage["imageReference"]
    if "publisher" not in image:
        return
    facts = IMAGES.get((image["publisher"], image["offer"], image["sku"]))
    if facts is None:
        raise ArmError(404, "PlatformImageNotFound", f"The platform image '{':'.join(image.values())}' is not there.")
    if facts.plan and plan != facts.plan:
        message = "Creating a virtual machine from Marketplace image requires Plan information in the request."
        raise ArmError(400, "VMMarketplaceInvalidInput", message)
    size = storage["osDisk"].get("diskSizeGB")
    if size is not None and size < facts.size_gb:
        message = (
            f"The specified disk size {size} GB is smaller than the size of the corresponding disk in the VM image: "
            f"{facts.size_gb} GB. This is not allowed. Please choose equal or greater size or do not specify an "
            "explicit size."
        )
        raise ArmError(400, "InvalidParameter", message)
    arm = image["sku"].endswith("arm64")
    if arm != shape.arm:
        message = f"Cannot create a VM of size '{shape.name}' because its CPU Architecture does not match the image's."
        raise ArmError(400, "BadRequest", message)
    first = image["sku"].endswith("gen1")
    if ("V1" if first else "V2") not in shape.generations:
        message = f"The selected VM size '{shape.name}' cannot boot Hypervisor Generation '{1 if first else 2}'."
        raise ArmError(400, "BadRequest", message)


def _check_login(profile: dict[str, Any]) -> None:
    keys = profile.get("linuxConfiguration", {}).get("ssh", {}).get("publicKeys", [])
    if not profile.get("adminUsername") or not any(key["keyData"].startswith("ssh-") for key in keys):
        raise ArmError(400, "InvalidParameter", "Authentication using either SSH or password must be enabled.")
    if len(base64.b64decode(profile.get("customData", ""))) > 65535:
        raise ArmError(400, "InvalidParameter", "Custom data in OSProfile is too long.")


def _check_subnet(cloud: Cloud, subnet: str) -> None:
    network, _, name = subnet.lower().rpartition("/subnets/")
    known = cloud.resources.get(network)
    subnets = known["properties"]["subnets"] if known is not None else []
    if not any(each["name"].lower() == name for each in subnets):
        raise ArmError(400, "InvalidResourceReference", f"Resource {subnet} referenced by the machine was not found.")


def usage(cloud: Cloud, location: str) -> Counter[str]:
    """Return the usage of each quota of a location."""
    used: Counter[str] = Counter()
    for vm in cloud.machines.values():
        if vm.resource["location"] != location or vm.power in ("deallocated",):
            continue
        used["virtualMachines"] += 1
        if vm.spot:
            used["lowPriorityCores"] += vm.vcpus
        else:
            used["cores"] += vm.vcpus
            used[vm.family] += vm.vcpus
    return used


def check_quota(cloud: Cloud, body: dict[str, Any], shape: SizeSpec) -> None:
    """Raise `ArmError` if a quota would be exceeded."""
    location = body["location"]
    addresses = cloud.find(lambda each: each["type"].endswith("publicIPAddresses"))
    if "publicIPAddressConfiguration" in str(body) and len(addresses) >= cloud.max_addresses:
        message = (
            f"Cannot create more than {cloud.max_addresses} public IP addresses for this subscription in this region."
        )
        raise ArmError(400, "PublicIPCountLimitReached", message)
    used, limits = usage(cloud, location), cloud.quotas[location]
    spot = body["properties"].get("priority") == "Spot"
    needs = {"lowPriorityCores": "LowPriorityCores"} if spot else {"cores": "Total Regional Cores", shape.family: ""}
    for name, shown in needs.items():
        limit = limits.get(name, 0)
        if used[name] + shape.vcpus > limit:
            message = (
                "Operation could not be completed as it results in exceeding approved "
                f"{shown or f'{name} Cores'} quota. "
                f"Additional details - Deployment Model: Resource Manager, Location: {location}, "
                f"Current Limit: {limit}, Current Usage: {used[name]}, Additional Required: {shape.vcpus}."
            )
            raise ArmError(409, "OperationNotAllowed", message)
