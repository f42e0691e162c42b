"""Records of the fake: instances, disks, operations, and stock-out rules."""

from __future__ import annotations

import fnmatch
from datetime import UTC, datetime
from typing import Any

import attrs
from cloud_guests import Guest
from gce_metadata import MetadataServer

__all__ = ["ApiError", "Disk", "Instance", "Operation", "StockOut", "Times", "api_time"]


class ApiError(Exception):
    """Error response in the API's format."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message

    def body(self) -> dict[str, Any]:
        errors = [{"message": self.message, "domain": "global", "reason": self.reason}]
        return {"error": {"code": self.status, "message": self.message, "errors": errors}}


def api_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


@attrs.frozen(kw_only=True)
class Times:
    """Durations in seconds; real ones are longer."""

    provision: float = 0.05
    """From the insertion to the running instance and the end of the operation."""
    delete: float = 0.05
    """From the exit of the guest to the end of the operation."""
    guest_shutdown: float = 2.0
    """Shutdown time of a guest before it is killed."""
    preemption: float = 3.0
    """From the notice to the termination of a preempted instance; 30 s in reality."""
    listing: float = 0.0
    """From the insertion until listings show the instance."""
    signal: float = 0.5
    """From the notice to the guest's SIGTERM."""


@attrs.frozen(kw_only=True)
class StockOut:
    """Rule for launches refused as a stock-out; shell patterns."""

    zone: str = "*"
    machine_type: str = "*"
    provisioning_model: str = "*"
    """``spot`` or ``on-demand``."""
    code: str = "ZONE_RESOURCE_POOL_EXHAUSTED"
    message: str = ""

    def matches(self, zone: str, machine_type: str, provisioning_model: str) -> bool:
        given = ((zone, self.zone), (machine_type, self.machine_type), (provisioning_model, self.provisioning_model))
        return all(fnmatch.fnmatchcase(value, pattern) for value, pattern in given)


@attrs.define(kw_only=True, eq=False)
class Disk:
    name: str
    zone: str
    type_name: str
    size_gb: int
    ident: int
    created: float
    labels: dict[str, str] = attrs.field(factory=dict)
    user: str = ""
    """Instance that the disk is attached to."""

    def resource(self, base: str) -> dict[str, Any]:
        place = f"{base}/zones/{self.zone}"
        users = [f"{place}/instances/{self.user}"] if self.user else []
        return {
            "kind": "compute#disk",
            "id": str(self.ident),
            "name": self.name,
            "zone": place,
            "type": f"{place}/diskTypes/{self.type_name}",
            "sizeGb": str(self.size_gb),
            "status": "READY",
            "labels": self.labels,
            "users": users,
            "creationTimestamp": api_time(self.created),
            "selfLink": f"{place}/disks/{self.name}",
        }


@attrs.define(kw_only=True, eq=False)
class Instance:
    name: str
    zone: str
    body: dict[str, Any]
    """Body of the insertion."""
    ident: int
    created: float
    machine_type: str
    vcpus: int
    started: float | None = None
    """Time at which its guest was booted."""
    status: str = "PROVISIONING"
    disks: list[Disk] = attrs.field(factory=list)
    guest: Guest | None = None
    metadata: MetadataServer | None = None
    ending: bool = False

    @property
    def spot(self) -> bool:
        scheduling = self.body.get("scheduling", {})
        return scheduling.get("provisioningModel") == "SPOT" or bool(scheduling.get("preemptible"))

    @property
    def deleted_on_termination(self) -> bool:
        return bool(self.body.get("scheduling", {}).get("instanceTerminationAction") == "DELETE")

    @property
    def labels(self) -> dict[str, str]:
        found: dict[str, str] = self.body.get("labels", {})
        return found

    def auto_deletes(self, disk: Disk) -> bool:
        return bool(self.body["disks"][self.disks.index(disk)].get("autoDelete"))

    def resource(self, base: str) -> dict[str, Any]:
        place = f"{base}/zones/{self.zone}"
        shown = {
            key: value
            for key, value in self.body.items()
            if key in ("labels", "scheduling", "tags", "metadata", "serviceAccounts", "shieldedInstanceConfig")
        }
        interface = {**self.body["networkInterfaces"][0], "networkIP": f"10.128.0.{self.ident % 250 + 2}"}
        for access in interface.get("accessConfigs", []):
            access["natIP"] = f"203.0.113.{self.ident % 250 + 2}"
        return {
            "kind": "compute#instance",
            "id": str(self.ident),
            "name": self.name,
            "zone": place,
            "machineType": f"{place}/machineTypes/{self.machine_type}",
            "status": self.status,
            "creationTimestamp": api_time(self.created),
            **({} if self.started is None else {"lastStartTimestamp": api_time(self.started)}),
            "selfLink": f"{place}/instances/{self.name}",
            "networkInterfaces": [interface],
            "disks": [
                {
                    "kind": "compute#attachedDisk",
                    "type": "PERSISTENT",
                    "mode": "READ_WRITE",
                    "source": f"{place}/disks/{disk.name}",
                    "boot": index == 0,
                    "autoDelete": self.auto_deletes(disk),
                    "diskSizeGb": str(disk.size_gb),
                    "index": index,
                }
                for index, disk in enumerate(self.disks)
            ],
            **shown,
        }


@attrs.define(kw_only=True, eq=False)
class Operation:
    name: str
    zone: str
    """Empty for a global operation."""
    kind: str
    """``insert``, ``delete`` or ``stop``."""
    target: str
    began: float
    ended: float | None = None
    errors: list[dict[str, Any]] = attrs.field(factory=list)
    status_code: int = 0
    seen: bool = False
    """Whether the operation was shown before: it is pending at first."""

    def resource(self, base: str) -> dict[str, Any]:
        place = f"{base}/zones/{self.zone}" if self.zone else f"{base}/global"
        found: dict[str, Any] = {
            "kind": "compute#operation",
            "id": str(abs(hash(self.name)) % 10**18),
            "name": self.name,
            **({"zone": place} if self.zone else {}),
            "operationType": self.kind,
            "targetLink": f"{place}/{'instances' if self.zone else 'images'}/{self.target}",
            "status": ("RUNNING" if self.seen else "PENDING") if self.ended is None else "DONE",
            "progress": 0 if self.ended is None else 100,
            "insertTime": api_time(self.began),
            "selfLink": f"{place}/operations/{self.name}",
        }
        self.seen = True
        if self.ended is not None:
            found["endTime"] = api_time(self.ended)
        if self.errors:
            found["error"] = {"errors": self.errors}
            found["httpErrorStatusCode"] = self.status_code or 400
            found["httpErrorMessage"] = "BAD REQUEST"
        return found
