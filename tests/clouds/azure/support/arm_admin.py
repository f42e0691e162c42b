"""The admin port of the stand-in: what a test does to it, and what it tells of itself. No fault ever strikes here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from arm_records import StockOut
from cloud_wire import Fault, Request, Wire

if TYPE_CHECKING:
    from arm_cloud import Cloud
    from arm_fake import ArmFake

__all__ = ["evict", "serve_admin", "state_of"]


def serve_admin(fake: ArmFake, wire: Wire) -> None:
    """Register the admin routes of a stand-in."""
    cloud = fake.cloud

    def stock_outs(request: Request) -> None:
        cloud.stock_outs = [StockOut(**rule) for rule in request.json()]

    def fault(request: Request) -> None:
        told = request.json()
        if "methods" in told:
            told["methods"] = frozenset(told["methods"])
        fake.wire.fault = Fault(**told) if told else None

    def times(request: Request) -> None:
        cloud.times = attrs.evolve(cloud.times, **request.json())

    def quotas(request: Request) -> None:
        for location, limits in request.json().items():
            cloud.quotas[location].update(limits)

    wire.route("GET", "/state", lambda request: state_of(fake))
    wire.route("POST", "/evict", lambda request: evict(cloud, **request.json()))
    wire.route("POST", "/stock-outs", stock_outs)
    wire.route("POST", "/fault", fault)
    wire.route("POST", "/times", times)
    wire.route("POST", "/quotas", quotas)
    wire.route("POST", "/advance", lambda request: cloud.timeline.advance(request.json()["seconds"]))


def state_of(fake: ArmFake) -> dict[str, Any]:
    """What there is and what was done, as JSON can express it."""
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
            "most_creations_at_once": cloud.most_creations_at_once(),
            "evicted": list(cloud.evicted),
            "approved": list(cloud.approved),
            "calls": len(fake.wire.calls),
            "struck": fake.wire.struck,
        }


def evict(cloud: Cloud, name: str | None = None, oldest: int = 0) -> list[str]:
    """Evict the machine of this name, or the oldest running spot machines; returns the names."""
    with cloud.lock:
        running = [
            each for each in cloud.machines.values() if each.spot and each.power == "running" and not each.ending
        ]
        running.sort(key=lambda each: each.created)
        names = [name] if name is not None else [each.name for each in running[:oldest]]
    for each in names:
        cloud.evict(each)
    return names
