"""Guests of the fake's instances: processes, metadata servers, consoles and power-off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cloud_guests import Guest
from cloud_power import power_off_programs
from gce_metadata import MetadataServer
from gce_records import Instance

__all__ = ["Guests"]

_POWER_OFF = "http://$GCE_METADATA_HOST/fake/power-off"


class Guests:
    """Guests of all instances.

    Args:
        folder: Folder of the guests, created here.
    """

    def __init__(self, folder: Path, project: str) -> None:
        self._folder = folder
        self._project = project
        self._consoles: dict[tuple[str, str], Path] = {}
        self._path = power_off_programs(folder / "bin", _POWER_OFF)

    def boot(
        self,
        instance: Instance,
        environment: Mapping[str, str],
        *,
        power_off: Callable[[], None],
        root: Path | None = None,
    ) -> None:
        """Start metadata server and startup script, and set the instance to running.

        Args:
            root: Root folder of which a bare machine is a copy; None for that of the environment.
        """
        items = {each["key"]: each["value"] for each in instance.body.get("metadata", {}).get("items", [])}
        values = {
            "name": instance.name,
            "id": str(instance.ident),
            "zone": f"projects/1/zones/{instance.zone}",
            "machine-type": f"projects/1/machineTypes/{instance.machine_type}",
            "hostname": f"{instance.name}.c.{self._project}.internal",
            "preempted": "FALSE",
            "../project/project-id": self._project,
            **{f"attributes/{key}": value for key, value in items.items()},
        }
        instance.metadata = MetadataServer(values, power_off=power_off)
        instance.status = "RUNNING"
        variables = {
            "PATH": self._path,
            **environment,
            "GCE_METADATA_HOST": instance.metadata.host,
        }
        folder = self.folder_of(instance)
        self._consoles[instance.zone, instance.name] = folder / "console.log"
        instance.guest = Guest(folder, items.get("startup-script", "#!/bin/bash\n"), environment=variables, root=root)

    def folder_of(self, instance: Instance) -> Path:
        return self._folder / f"{instance.name}-{instance.ident}"

    def console(self, zone: str, name: str) -> str:
        """Return the output of the first serial port of an instance."""
        file = self._consoles.get((zone, name))
        printed = file.read_text(errors="replace") if file is not None and file.exists() else ""
        lines = "".join(f"google_metadata_script_runner[1]: startup-script: {line}\n" for line in printed.splitlines())
        return f"[    0.000000] Linux version fake\n{lines}"
