"""Control and inspection of the Resource Manager fake by tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from arm_cloud import Cloud
    from arm_fake import ArmFake

__all__ = ["evict", "state_of"]


def state_of(fake: ArmFake) -> dict[str, Any]:
    """Return the fake's state as JSON."""
    cloud = fake.cloud
    with cloud.lock:
        return {
            "instances": [
                {
                    "name": each.name,
                    "zone": each.zone,
                    "type": each.size,
                    "status": each.power or each.state,
                    "spot": each.spot,
                    "tags": each.resource.get("tags", {}),
                }
                for each in cloud.machines.values()
            ],
            "resources": sorted(
                f"{str(each['type']).rpartition('/')[2]}/{each['name']}" for each in cloud.resources.values()
            ),
            "groups": sorted(each["name"] for each in cloud.groups.values()),
            "creations": [attrs.asdict(record) for record in cloud.creations],
            "max_concurrent_creations": cloud.max_concurrent_creations(),
            "evicted": list(cloud.evicted),
            "approved": list(cloud.approved),
            "calls": len(fake.server.calls),
            "struck": fake.server.struck,
        }


def evict(cloud: Cloud, name: str | None = None, oldest: int = 0) -> list[str]:
    """Evict the VM of this name, or the oldest running spot VMs, and return the names."""
    with cloud.lock:
        running = [
            each for each in cloud.machines.values() if each.spot and each.power == "running" and not each.ending
        ]
        running.sort(key=lambda each: each.created)
        names = [name] if name is not None else [each.name for each in running[:oldest]]
    for each in names:
        cloud.evict(each)
    return names
