"""Images of the fake: those of its catalog, and those that are made of its disks ("Method: images.insert")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gce_bodies import check_body
from gce_records import ApiError, Instance, Operation
from google.cloud import compute_v1 as sdk

if TYPE_CHECKING:
    from gce_cloud import Cloud

__all__ = ["OwnImages"]

_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")


class OwnImages:
    """Images of the project, by name."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self.found: dict[str, dict[str, Any]] = {}
        self.roots: dict[str, Path] = {}
        """Root folders of bare machines of which images were made."""
        self.failure = ""
        """Reason of the failure of the next image."""

    def insert(self, body: Mapping[str, Any], request_id: str) -> Operation:
        check_body(sdk.Image, dict(body))
        cloud, name = self._cloud, str(body.get("name", ""))
        with cloud.lock:
            if not _NAME.fullmatch(name):
                raise ApiError(400, "invalid", f"Invalid value for field 'resource.name': '{name}'.")
            if name in self.found:
                path = f"projects/{cloud.project}/global/images/{name}"
                raise ApiError(409, "alreadyExists", f"The resource '{path}' already exists")
            instance = self._source(str(body.get("sourceDisk", "")))
            image = {
                "project": cloud.project,
                "name": name,
                "family": body.get("family", ""),
                "disk_gb": str(instance.disks[0].size_gb),
                "labels": dict(body.get("labels", {})),
                "status": "PENDING",
            }
            operation = cloud.begin("insert", "", name, request_id)
            self.found[name] = image
            if (root := cloud.guests.folder_of(instance) / "root").exists():
                self.roots[name] = root
        cloud.timeline.after(cloud.times.provision, lambda: self._complete(image, operation))
        return operation

    def _source(self, disk: str) -> Instance:
        """Return the instance of a boot disk, which must be stopped."""
        _, project, _, zone, _, name = disk.split("/")
        for instance in self._cloud.instances.values():
            if project == self._cloud.project and instance.zone == zone and instance.disks[0].name == name:
                if instance.status != "TERMINATED":
                    raise ApiError(
                        400,
                        "resourceInUseByAnotherResource",
                        f"The disk resource '{disk}' is already being used by '{instance.name}'",
                    )
                return instance
        raise ApiError(404, "notFound", f"The resource '{disk}' was not found")

    def _complete(self, image: dict[str, Any], operation: Operation) -> None:
        image["status"] = "FAILED" if self.failure else "READY"
        problems = [{"code": "INTERNAL_ERROR", "message": self.failure}] if self.failure else None
        self.failure = ""
        self._cloud.finish(operation, problems, 500 if problems else 0)

    def delete(self, name: str, request_id: str) -> Operation:
        with self._cloud.lock:
            if name not in self.found:
                path = f"projects/{self._cloud.project}/global/images/{name}"
                raise ApiError(404, "notFound", f"The resource '{path}' was not found")
            del self.found[name]
            operation = self._cloud.begin("delete", "", name, request_id)
        self._cloud.finish(operation)
        return operation

    def root_of(self, instance: Instance) -> Path | None:
        """Return the root folder of the image of an instance, if it was made of a bare machine."""
        image = str(instance.body["disks"][0].get("initializeParams", {}).get("sourceImage", ""))
        return self.roots.get(image.rpartition("/")[2])
