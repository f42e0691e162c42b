"""Local checks of a launch request, without a call to Azure."""

from __future__ import annotations

from cloud_tasks.errors import InputError
from cloud_tasks.model import LaunchRequest
from cloud_tasks_azure.compute.disks import disk_problem
from cloud_tasks_azure.compute.startup_script import custom_data
from cloud_tasks_azure.compute.tags import group_name, instance_name
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["check_launch"]

_SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
"""Placeholder of the length of every subscription id, if the settings have none."""


def check_launch(settings: AzureSettings, request: LaunchRequest) -> None:
    """Raise `InputError` if the boot disk is invalid or the startup script is too long."""
    problem = disk_problem(request.offer.boot_disk)
    if problem:
        raise InputError(problem, where="run.boot_disk_types")
    group = settings.resource_group or group_name(request.job_id)
    place = f"/subscriptions/{settings.subscription_id or _SUBSCRIPTION}/resourceGroups/{group}"
    custom_data(request, settings, f"{place}/providers/Microsoft.Compute/virtualMachines/{instance_name(request)}")
