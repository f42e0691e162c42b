"""Guests of the fake's VMs: processes, metadata services, consoles and power-off."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable, Mapping
from pathlib import Path

from arm_metadata import MetadataServer
from arm_records import VirtualMachine
from cloud_guests import Guest
from cloud_power import power_off_programs

__all__ = ["Guests", "custom_data"]

_POWER_OFF = "$CLOUD_TASKS_AZURE_METADATA_URL/fake/power-off"


def custom_data(vm: VirtualMachine) -> bytes:
    """Return the startup script of a VM, as cloud-init reads it."""
    content = base64.b64decode(vm.resource["properties"]["osProfile"].get("customData", ""))
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


class Guests:
    """Starts guests and keeps their consoles.

    Args:
        folder: Parent of the VMs' folders; created.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._consoles: dict[str, Path] = {}
        self._path = power_off_programs(folder / "bin", _POWER_OFF)

    def boot(
        self,
        vm: VirtualMachine,
        number: int,
        environment: Mapping[str, str],
        *,
        power_off: Callable[[], None],
        approve: Callable[[], None],
        root: Path | None = None,
    ) -> None:
        """Start the metadata service and the startup script of a VM.

        Args:
            root: Root folder of which a bare machine is a copy; None for that of the environment.
        """
        numbers = vm.resource.get("zones") or [""]
        compute = {
            "name": vm.name,
            "location": vm.resource["location"],
            "zone": numbers[0],
            "vmSize": vm.size,
            "vmId": vm.resource["properties"]["vmId"],
            "resourceId": vm.resource["id"],
        }
        vm.metadata = MetadataServer(compute, power_off=power_off, approve=approve)
        variables = {
            "PATH": self._path,
            **environment,
            "CLOUD_TASKS_AZURE_METADATA_URL": vm.metadata.url,
        }
        folder = self._folder / f"{vm.name}-{number}"
        self._consoles[vm.name] = folder / "console.log"
        vm.guest = Guest(folder, custom_data(vm) or b"#!/bin/bash\n", environment=variables, root=root)
        vm.power = "running"

    def console(self, name: str) -> str:
        """Return the serial console output of a VM."""
        file = self._consoles.get(name)
        printed = file.read_text(errors="replace") if file is not None and file.exists() else ""
        return "[    0.000000] Linux version fake\n" + printed
