"""Records of the Resource Manager fake: VMs, operations, and rules of refused launches."""

from __future__ import annotations

import fnmatch
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
from arm_metadata import MetadataServer
from cloud_guests import Guest

__all__ = ["ArmError", "Operation", "StockOut", "Times", "VirtualMachine", "api_time"]


class ArmError(Exception):
    """An error response of the API."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    @property
    def error(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message}


def api_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


@attrs.frozen(kw_only=True)
class Times:
    """Durations in seconds; Azure's are longer."""

    provision: float = 0.05
    """From the creation to the running VM, and the end of the operation."""
    network: float = 0.02
    """Creation or deletion of a network."""
    delete: float = 0.05
    """From the end of the guest to the end of the operation."""
    group: float = 0.1
    """Deletion of a resource group."""
    guest_shutdown: float = 2.0
    """Grace period of a guest if the deletion is not forced."""
    listing_lag: float = 0.0
    """From the creation of a VM until listings have it."""
    preemption: float = 3.0
    """From the scheduled event to the end of an evicted VM; at least 30 in Azure."""


@attrs.frozen(kw_only=True)
class StockOut:
    """Rule of launches without capacity, with shell patterns."""

    zone: str = "*"
    """``eastus-1``."""
    size: str = "*"
    provisioning_model: str = "*"
    """``spot`` or ``on-demand``."""
    code: str = "ZonalAllocationFailed"
    message: str = "Allocation failed. We do not have sufficient capacity for the requested VM size in this zone."
    at_once: bool = False
    """Whether the request itself fails, instead of its operation."""

    def hits(self, zone: str, size: str, provisioning_model: str) -> bool:
        given = ((zone, self.zone), (size, self.size), (provisioning_model, self.provisioning_model))
        return all(fnmatch.fnmatchcase(value, pattern) for value, pattern in given)


@attrs.define(kw_only=True, eq=False)
class VirtualMachine:
    """One VM; its resource is the request body with the API's additions."""

    resource: dict[str, Any]
    family: str
    vcpus: int
    created: float
    provisioned: float | None = None
    power: str = "creating"
    guest: Guest | None = None
    metadata: MetadataServer | None = None
    ending: bool = False
    generalized: bool = False
    """Whether it can only be the source of an image."""
    root: Path | None = None
    """Root folder of a bare machine that is deallocated."""
    parts: list[str] = attrs.field(factory=list)
    """Keys of the resources created with the VM."""

    @property
    def name(self) -> str:
        return str(self.resource["name"])

    @property
    def spot(self) -> bool:
        return bool(self.resource["properties"].get("priority") == "Spot")

    @property
    def zone(self) -> str:
        numbers = self.resource.get("zones")
        return f"{self.resource['location']}-{numbers[0]}" if numbers else str(self.resource["location"])

    @property
    def size(self) -> str:
        return str(self.resource["properties"]["hardwareProfile"]["vmSize"])

    @property
    def state(self) -> str:
        return str(self.resource["properties"]["provisioningState"])

    @state.setter
    def state(self, value: str) -> None:
        self.resource["properties"]["provisioningState"] = value


@attrs.define(kw_only=True, eq=False)
class Operation:
    name: str
    kind: str
    """``create`` or ``delete``."""
    target: str
    """Key of the resource."""
    began: float
    ended: float | None = None
    problem: ArmError | None = None

    def resource(self) -> dict[str, Any]:
        status = "InProgress" if self.ended is None else "Failed" if self.problem is not None else "Succeeded"
        found: dict[str, Any] = {"name": self.name, "status": status, "startTime": api_time(self.began)}
        if self.ended is not None:
            found["endTime"] = api_time(self.ended)
        if self.problem is not None:
            found["error"] = self.problem.error
        return found
