"""Launch requests for local instances, and their folders."""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.model import BootDisk, Instance, LaunchRequest, Offer, OfferRequest, ProvisioningModel
from cloud_tasks.plugin import ComputeContext, PricingContext
from cloud_tasks_local.compute import LocalCompute
from cloud_tasks_local.instance_folder import InstanceFolder
from cloud_tasks_local.pricing import open_pricing
from cloud_tasks_local.settings import LocalSettings

FOREVER = "while true; do sleep 1000; done\n"


def request(
    script: str,
    *,
    token: str = "token",
    job: str = "job",
    provisioning_model: ProvisioningModel = ProvisioningModel.ON_DEMAND,
    max_lifetime: timedelta | None = None,
    startup_timeout: timedelta | None = None,
) -> LaunchRequest:
    settings = LocalSettings()
    instance_type = LocalCompute(settings, ComputeContext(job_id=job)).instance_types()[0]
    disk = BootDisk(disk_type="", size_gb=10)
    wanted = OfferRequest(
        instance_type=instance_type, zone="local-a", provisioning_model=provisioning_model, boot_disk=disk
    )
    (offer,) = open_pricing(settings, PricingContext()).price([wanted])
    assert isinstance(offer, Offer)
    return LaunchRequest(
        client_token=token,
        job_id=job,
        offer=offer,
        startup_script=script,
        labels={"run": "r1"},
        max_lifetime=max_lifetime,
        startup_timeout=startup_timeout,
    )


def folder_of(settings: LocalSettings, instance: Instance) -> InstanceFolder:
    return InstanceFolder(settings.state_dir / "instances" / instance.job_id / instance.instance_id)
