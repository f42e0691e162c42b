"""Local checks of a launch request, without a call to Azure."""

from __future__ import annotations

from cloud_tasks.errors import InputError
from cloud_tasks.model import LaunchRequest
from cloud_tasks_azure.compute.disks import disk_problem
from cloud_tasks_azure.compute.startup_script import compose_script, encode_script
from cloud_tasks_azure.compute.tags import group_name, instance_name
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["check_launch"]

_SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
"""Placeholder of the length of every subscription id, if the settings have none."""
_MANAGEMENT = "https://management.azure.com"


def check_launch(settings: AzureSettings, request: LaunchRequest) -> None:
    """Raise `InputError` if the boot disk is invalid or the startup script is too long."""
    problem = disk_problem(request.offer.boot_disk)
    if problem:
        raise InputError(problem, where="run.boot_disk_types")
    group = settings.resource_group or group_name(request.job_id)
    place = f"/subscriptions/{settings.subscription_id or _SUBSCRIPTION}/resourceGroups/{group}"
    script = compose_script(
        request.startup_script,
        max_lifetime=request.max_lifetime,
        startup_timeout=request.startup_timeout,
        identity=settings.managed_identity,
        resource=f"{place}/providers/Microsoft.Compute/virtualMachines/{instance_name(request)}",
        management=settings.management_endpoint or _MANAGEMENT,
        metadata=settings.metadata_url,
        account=settings.storage_account,
    )
    encode_script(script)
