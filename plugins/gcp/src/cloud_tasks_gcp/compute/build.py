"""Build the instance resource that a launch inserts, from the request and the settings. Pure.

Invariants, each with a test:

1. Every resource of an instance is deleted with it: the boot disk has auto-delete set.
2. A reclaimed spot instance is deleted, never left stopped, and no instance outlives its maximum lifetime.
3. A disk is provisioned with the IOPS and throughput that it was priced with: Google's own defaults may cost more.
4. An instance powers itself off when its worker exits.
"""

from __future__ import annotations

import math
from datetime import timedelta

from google.cloud import compute_v1 as sdk

from cloud_tasks.model import BootDisk, LaunchRequest, ProvisioningModel
from cloud_tasks_gcp.compute.families import family_of
from cloud_tasks_gcp.compute.labels import instance_name, labels_of
from cloud_tasks_gcp.compute.launch_check import startup_script
from cloud_tasks_gcp.disks import disk_gb, provisioned
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["instance_resource"]

_RUN_LIMITS = (timedelta(seconds=30), timedelta(days=120))
"""Minimum and maximum of ``maxRunDuration`` ("Limit the run time of a VM")."""


def instance_resource(request: LaunchRequest, settings: GcpSettings, *, image: str, region: str) -> sdk.Instance:
    """Return the body of ``instances.insert``.

    Args:
        image: Path as the API takes it: ``projects/…/global/images/…``.
        region: Region of the request's zone, for the subnetwork.
    """
    zone = request.offer.zone
    labels = labels_of(request)
    script = startup_script(request)
    instance = sdk.Instance(
        name=instance_name(request),
        description="Started by cloud-tasks",
        machine_type=f"zones/{zone}/machineTypes/{request.offer.instance_type.name}",
        labels=labels,
        disks=[_boot_disk(request.offer.boot_disk, zone, image, labels)],
        network_interfaces=[_network_interface(settings, region)],
        scheduling=_scheduling(request),
        service_accounts=[sdk.ServiceAccount(email=settings.service_account or "default", scopes=settings.scopes)],
        metadata=sdk.Metadata(items=[sdk.Items(key="startup-script", value=script)]),
    )
    if settings.tags:
        instance.tags = sdk.Tags(items=settings.tags)
    shield = {
        "enable_secure_boot": settings.shielded_secure_boot,
        "enable_vtpm": settings.shielded_vtpm,
        "enable_integrity_monitoring": settings.shielded_integrity_monitoring,
    }
    given = {key: value for key, value in shield.items() if value is not None}
    if given:
        instance.shielded_instance_config = sdk.ShieldedInstanceConfig(given)
    return instance


def _boot_disk(disk: BootDisk, zone: str, image: str, labels: dict[str, str]) -> sdk.AttachedDisk:
    parameters = sdk.AttachedDiskInitializeParams(
        source_image=image,
        disk_type=f"zones/{zone}/diskTypes/{disk.disk_type}",
        disk_size_gb=disk_gb(disk),
        labels=labels,
    )
    iops, throughput = provisioned(disk)
    if iops is not None:
        parameters.provisioned_iops = iops
    if throughput is not None:
        parameters.provisioned_throughput = throughput
    return sdk.AttachedDisk(boot=True, auto_delete=True, type_="PERSISTENT", initialize_params=parameters)


def _network_interface(settings: GcpSettings, region: str) -> sdk.NetworkInterface:
    interface = sdk.NetworkInterface()
    if settings.network:
        interface.network = settings.network if "/" in settings.network else f"global/networks/{settings.network}"
    if settings.subnetwork:
        name = settings.subnetwork
        interface.subnetwork = name if "/" in name else f"regions/{region}/subnetworks/{name}"
    elif not settings.network:
        interface.network = "global/networks/default"
    if settings.external_address:
        interface.access_configs = [sdk.AccessConfig(name="External NAT", type_="ONE_TO_ONE_NAT")]
    return interface


def _scheduling(request: LaunchRequest) -> sdk.Scheduling:
    instance_type = request.offer.instance_type
    spot = request.offer.provisioning_model is ProvisioningModel.SPOT
    # The controller replaces a failed instance if it is still wanted.
    scheduling = sdk.Scheduling(automatic_restart=False, provisioning_model="SPOT" if spot else "STANDARD")
    family = family_of(instance_type.name, instance_type.vcpus, instance_type.local_ssd_gb)
    if spot or instance_type.gpu_count or not family.migrates:
        scheduling.on_host_maintenance = "TERMINATE"
    if request.max_lifetime is not None:
        seconds = math.ceil(min(max(request.max_lifetime, _RUN_LIMITS[0]), _RUN_LIMITS[1]).total_seconds())
        scheduling.max_run_duration = sdk.Duration(seconds=seconds)
    if spot or request.max_lifetime is not None:
        scheduling.instance_termination_action = "DELETE"
    return scheduling
