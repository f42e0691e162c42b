"""Control and state report of the Compute Engine fake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from gce_cloud import Cloud
    from gce_fake import GceFake

__all__ = ["preempt", "state_of"]


def state_of(fake: GceFake) -> dict[str, Any]:
    """Return resources and past actions as JSON data."""
    cloud = fake.cloud
    with cloud.lock:
        return {
            "instances": [
                {
                    "name": each.name,
                    "zone": each.zone,
                    "type": each.machine_type,
                    "status": each.status,
                    "spot": each.spot,
                    "labels": each.labels,
                }
                for each in cloud.instances.values()
            ],
            "disks": sorted(disk.name for disk in cloud.disks.values()),
            "inserts": [attrs.asdict(record) for record in cloud.inserts],
            "most_inserts_at_once": cloud.most_inserts_at_once(),
            "preempted": list(cloud.preempted),
            "calls": len(fake.server.calls),
            "called": sorted({f"{method} {path}" for method, path in fake.server.calls}),
            "struck": fake.server.struck,
        }


def preempt(cloud: Cloud, name: str | None = None, oldest: int = 0) -> list[str]:
    """Preempt the instance of this name, or the oldest running spot instances; return the names."""
    with cloud.lock:
        running = [each for each in cloud.instances.values() if each.spot and each.status == "RUNNING"]
        running.sort(key=lambda each: each.created)
        names = [name] if name is not None else [each.name for each in running[:oldest]]
    for each in names:
        cloud.preempt(each)
    return names
