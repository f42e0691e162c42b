"""The admin port of the stand-in: what a test does to it, and what it tells of itself. No fault ever strikes here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from cloud_wire import Fault, Request, Wire
from gce_records import StockOut

if TYPE_CHECKING:
    from gce_cloud import Cloud
    from gce_fake import GceFake

__all__ = ["preempt", "serve_admin", "state_of"]


def serve_admin(fake: GceFake, wire: Wire) -> None:
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
        for region, limits in request.json().items():
            (cloud.global_quotas if region == "global" else cloud.quotas[region]).update(limits)

    def unreachable(request: Request) -> None:
        fake.unreachable_zones = set(request.json())

    wire.route("GET", "/state", lambda request: state_of(fake))
    wire.route("POST", "/preempt", lambda request: preempt(cloud, **request.json()))
    wire.route("POST", "/stock-outs", stock_outs)
    wire.route("POST", "/fault", fault)
    wire.route("POST", "/times", times)
    wire.route("POST", "/quotas", quotas)
    wire.route("POST", "/unreachable-zones", unreachable)
    wire.route("POST", "/advance", lambda request: cloud.timeline.advance(request.json()["seconds"]))


def state_of(fake: GceFake) -> dict[str, Any]:
    """What there is and what was done, as JSON can express it."""
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
            "calls": len(fake.wire.calls),
            "called": sorted({f"{method} {path}" for method, path in fake.wire.calls}),
            "struck": fake.wire.struck,
        }


def preempt(cloud: Cloud, name: str | None = None, oldest: int = 0) -> list[str]:
    """Preempt the machine of this name, or the oldest running spot machines; returns the names."""
    with cloud.lock:
        running = [each for each in cloud.instances.values() if each.spot and each.status == "RUNNING"]
        running.sort(key=lambda each: each.created)
        names = [name] if name is not None else [each.name for each in running[:oldest]]
    for each in names:
        cloud.preempt(each)
    return names
