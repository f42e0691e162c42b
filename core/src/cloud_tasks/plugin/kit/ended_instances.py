"""The instance of a launch that has already ended."""

from __future__ import annotations

from datetime import UTC, datetime

from cloud_tasks.model import Instance, InstanceState, LaunchRequest

__all__ = ["ended_instance"]


def ended_instance(request: LaunchRequest, instance_id: str) -> Instance:
    """Return the terminated instance of an earlier launch with this request, of which the provider has no record."""
    return Instance(
        instance_id=instance_id,
        job_id=request.job_id,
        state=InstanceState.TERMINATED,
        instance_type=request.offer.instance_type.name,
        zone=request.offer.zone,
        provisioning_model=request.offer.provisioning_model,
        created_at=datetime.now(UTC),
        client_token=request.client_token,
        boot_disk_type=request.offer.boot_disk.disk_type,
        labels=dict(request.labels),
    )
