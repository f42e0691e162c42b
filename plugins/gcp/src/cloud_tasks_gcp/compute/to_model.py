"""Conversion of API resources (machine types, instances, images) to `cloud_tasks.model`. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from google.cloud import compute_v1 as sdk

from cloud_tasks.model import Architecture, Image, Instance, InstanceState, InstanceType, ProvisioningModel
from cloud_tasks_gcp.compute.families import boot_disk_types, family_of
from cloud_tasks_gcp.compute.labels import DISK_LABEL, JOB_LABEL, TOKEN_LABEL, own_labels
from cloud_tasks_gcp.compute.shared_cores import sustained_share

__all__ = ["GONE", "OWN_IMAGES", "last_part", "to_image", "to_instance", "to_instance_types"]

OWN_IMAGES = "self"
"""Value of `Image.owner` for images of the user's own project."""

_PARTITION_GB = {"z3": 3000.0}
_DEFAULT_PARTITION_GB = 375.0
"""Size of one local SSD partition in GiB ("About Local SSD disks": 375 GiB; Z3: 3 TiB, 3,000 GiB usable)."""

GONE = ("OBSOLETE", "DELETED")
"""States of deprecation in which a resource cannot be used any more."""

_STATES: Mapping[str, InstanceState] = {
    "PENDING": InstanceState.STARTING,
    "PROVISIONING": InstanceState.STARTING,
    "STAGING": InstanceState.STARTING,
    "REPAIRING": InstanceState.STARTING,
    "RUNNING": InstanceState.RUNNING,
    "PENDING_STOP": InstanceState.STOPPING,
    "STOPPING": InstanceState.STOPPING,
    "SUSPENDING": InstanceState.STOPPING,
    "DEPROVISIONING": InstanceState.STOPPING,
    # Stopped and suspended instances remain, with billed disks, until they are deleted ("VM instance lifecycle").
    "SUSPENDED": InstanceState.STOPPED,
    "STOPPED": InstanceState.STOPPED,
    "TERMINATED": InstanceState.STOPPED,
}
_ENDING = (InstanceState.STOPPING, InstanceState.STOPPED)


def last_part(url: str) -> str:
    """Return the last path segment: ``us-central1-a`` of ``https://…/zones/us-central1-a``."""
    return url.rpartition("/")[2]


def to_instance_types(found: Iterable[tuple[str, sdk.MachineType]]) -> tuple[InstanceType, ...]:
    """Convert machine types, sorted by name, each with all its zones.

    Args:
        found: Zone and machine type, for each zone that lists it.
    """
    zones: dict[str, set[str]] = defaultdict(set)
    types: dict[str, sdk.MachineType] = {}
    for zone, machine_type in found:
        if machine_type.deprecated.state in GONE:
            continue
        zones[machine_type.name].add(zone)
        types.setdefault(machine_type.name, machine_type)
    return tuple(_to_instance_type(types[name], tuple(sorted(zones[name]))) for name in sorted(types))


def _to_instance_type(machine_type: sdk.MachineType, zones: tuple[str, ...]) -> InstanceType:
    name, vcpus = machine_type.name, machine_type.guest_cpus
    family = family_of(name, vcpus)
    gpus = machine_type.accelerators[0] if machine_type.accelerators else None
    partitions = machine_type.bundled_local_ssds.partition_count
    arm = machine_type.architecture == "ARM64"
    return InstanceType(
        name=name,
        vcpus=vcpus,
        memory_gb=machine_type.memory_mb / 1024,
        architecture=Architecture.ARM64 if arm else Architecture.X86_64,
        zones=zones,
        local_ssd_gb=partitions * _PARTITION_GB.get(name.partition("-")[0], _DEFAULT_PARTITION_GB),
        boot_disk_types=boot_disk_types(name, vcpus),
        cpu_family=family.cpu,
        cpu_rank=family.rank,
        gpu_count=gpus.guest_accelerator_count if gpus is not None else 0,
        gpu_type=gpus.guest_accelerator_type if gpus is not None else "",
        supports_spot=family.spot,
        sustained_cpu=sustained_share(name, is_shared=machine_type.is_shared_cpu),
        description=machine_type.description,
    )


def to_instance(instance: sdk.Instance) -> Instance:
    """Convert a listed instance; ``job_id`` is empty for an unmanaged one."""
    labels = dict(instance.labels)
    job_id = labels.get(JOB_LABEL, "")
    spot = instance.scheduling.provisioning_model == "SPOT" or instance.scheduling.preemptible
    state = _STATES.get(instance.status, InstanceState.RUNNING)
    return Instance(
        instance_id=instance.name,
        job_id=job_id,
        state=state,
        instance_type=last_part(instance.machine_type),
        zone=last_part(instance.zone),
        provisioning_model=ProvisioningModel.SPOT if spot else ProvisioningModel.ON_DEMAND,
        created_at=_parse_time(instance.creation_timestamp) or datetime.now(UTC),
        client_token=labels.get(TOKEN_LABEL, ""),
        boot_disk_type=labels.get(DISK_LABEL, ""),
        labels=own_labels(labels) if job_id else labels,
        address=_address(instance),
        # A deleted instance is not listed, so that none has an end.
        started_at=_parse_time(instance.last_start_timestamp),
        reason=" ".join(instance.status_message.split()) if state in _ENDING else "",
    )


def _address(instance: sdk.Instance) -> str:
    for interface in instance.network_interfaces:
        for access in interface.access_configs:
            if access.nat_i_p:
                return str(access.nat_i_p)
    return str(instance.network_interfaces[0].network_i_p) if instance.network_interfaces else ""


def to_image(image: sdk.Image, project: str, *, own: bool) -> Image:
    """Convert an image of a project; ``own`` for the user's project."""
    arm = image.architecture == "ARM64"
    return Image(
        name=image.name,
        uri=f"projects/{project}/global/images/{image.name}",
        architecture=Architecture.ARM64 if arm else Architecture.X86_64,
        family=image.family,
        owner=OWN_IMAGES if own else project,
        description=image.description,
        created_at=_parse_time(image.creation_timestamp),
        min_disk_gb=image.disk_size_gb or None,
    )


def _parse_time(text: str) -> datetime | None:
    """Parse an RFC 3339 timestamp of the API; return UTC, or None for an empty or invalid text."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None
