"""Fake Compute Engine on loopback: its REST API on top of `Cloud`, for the real SDK.

In the test process: ``with GceFake(folder) as fake:``. In a separate process, for tests that kill controllers:
``GceProcess`` of `gce_process`. Tests control it (preemption, stock-outs, faults) over a second port, the admin port,
which has no faults.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from fake_cloud import FakeCloud
from fake_server import Answer, Request
from gce_admin import preempt, state_of
from gce_cloud import Cloud
from gce_paging import matches, page
from gce_permissions import check_permissions
from gce_records import ApiError, StockOut, Times

__all__ = ["GceFake"]

_PROJECTS = r"/compute/v1/projects/(?P<project>[^/]+)"
_ZONE = rf"{_PROJECTS}/zones/(?P<zone>[^/]+)"
_MAX_PAGE = 500
_MAX_WAIT = 60.0


class GceFake(FakeCloud[Cloud]):
    """Running fake; its `url` is the value of `compute_endpoint`.

    Args:
        folder: Folder of the instances.
        page_size: Maximum page size of a listing.
    """

    def __init__(
        self,
        folder: Path,
        *,
        project: str = "fake-project",
        times: Times | None = None,
        guest_environment: Mapping[str, str] | None = None,
        page_size: int = _MAX_PAGE,
        seed: int = 1,
    ) -> None:
        cloud = Cloud(folder, project=project, times=times, guest_environment=guest_environment)
        super().__init__(cloud, stock_out=StockOut, seed=seed)
        self.page_size = page_size
        self.unreachable_zones: set[str] = set()
        self.granted: frozenset[str] | None = None
        """Permissions of the caller; None for all."""
        self.used_permissions: frozenset[str] = frozenset()
        """Permissions that the calls so far required."""
        self._routes()
        self.admin.route("POST", "/preempt", lambda request: preempt(self.cloud, **request.json()))
        self.admin.route("POST", "/unreachable-zones", self._set_unreachable_zones)

    def state(self) -> dict[str, Any]:
        return state_of(self)

    def preempt(self, name: str | None = None, *, oldest: int = 0) -> list[str]:
        """Preempt the instance of this name, or the oldest running spot instances; return the names."""
        return preempt(self.cloud, name, oldest)

    def _set_unreachable_zones(self, request: Request) -> None:
        self.unreachable_zones = set(request.json())

    # -- the API --

    def _routes(self) -> None:
        def route(method: str, path: str, handler: Callable[[Request], Any]) -> None:
            self.server.route(method, path, functools.partial(self._answer, handler))

        route("GET", _PROJECTS, self._get_project)
        route("GET", rf"{_PROJECTS}/regions", self._list_regions)
        route("GET", rf"{_PROJECTS}/regions/(?P<region>[^/]+)", self._get_region)
        route("GET", rf"{_PROJECTS}/global/images", self._list_images)
        route("GET", rf"{_PROJECTS}/global/images/family/(?P<family>[^/]+)", self._get_family)
        route("GET", rf"{_PROJECTS}/global/images/(?P<image>[^/]+)", self._get_image)
        route("POST", rf"{_PROJECTS}/global/images", self._insert_image)
        route("DELETE", rf"{_PROJECTS}/global/images/(?P<image>[^/]+)", self._delete_image)
        route("GET", rf"{_PROJECTS}/global/operations/(?P<name>[^/]+)", lambda request: self._operation(request, 0.0))
        route("POST", rf"{_PROJECTS}/global/operations/(?P<name>[^/]+)/wait", lambda r: self._operation(r, _MAX_WAIT))
        route("GET", rf"{_PROJECTS}/global/networks/(?P<name>[^/]+)", self._get_network)
        route("GET", rf"{_PROJECTS}/regions/[^/]+/subnetworks/(?P<name>[^/]+)", self._get_network)
        route("GET", rf"{_PROJECTS}/aggregated/instances", self._aggregated_instances)
        route("GET", rf"{_PROJECTS}/aggregated/disks", self._aggregated_disks)
        route("GET", rf"{_ZONE}/machineTypes", self._list_types)
        route("POST", rf"{_ZONE}/instances", self._insert)
        route("GET", rf"{_ZONE}/instances/(?P<name>[^/]+)", self._get_instance)
        route("DELETE", rf"{_ZONE}/instances/(?P<name>[^/]+)", self._delete_instance)
        route("GET", rf"{_ZONE}/instances/(?P<name>[^/]+)/serialPort", self._serial_port)
        route("POST", rf"{_ZONE}/instances/(?P<name>[^/]+)/stop", self._stop_instance)
        route("GET", rf"{_ZONE}/disks", self._list_disks)
        route("DELETE", rf"{_ZONE}/disks/(?P<name>[^/]+)", self._delete_disk)
        route("GET", rf"{_ZONE}/operations/(?P<name>[^/]+)", lambda request: self._operation(request, 0.0))
        route("POST", rf"{_ZONE}/operations/(?P<name>[^/]+)/wait", lambda r: self._operation(r, _MAX_WAIT))

    def _answer(self, handler: Callable[[Request], Any], request: Request) -> Answer:
        try:
            project = request.groups["project"]
            known = {self.cloud.project, *(image["project"] for image in self.cloud.catalog.images)}
            if project not in known:
                raise ApiError(404, "notFound", f"The resource 'projects/{project}' was not found")
            self.used_permissions |= check_permissions(request, self.granted)
            return Answer(body={"kind": "compute#resource", **handler(request)})
        except ApiError as problem:
            return Answer(status=problem.status, body=problem.body())

    @property
    def _base(self) -> str:
        return f"https://www.googleapis.com/compute/v1/projects/{self.cloud.project}"

    def _get_project(self, request: Request) -> Any:
        quotas = self._quotas(self.cloud.global_quotas, None)
        return {"kind": "compute#project", "name": self.cloud.project, "quotas": quotas}

    def _quotas(self, limits: Mapping[str, float], region: str | None) -> list[dict[str, Any]]:
        used = dict(self.cloud.usage(region))
        return [
            {"metric": metric, "limit": limit, "usage": used.get(metric, 0)} for metric, limit in sorted(limits.items())
        ]

    def _region(self, name: str) -> dict[str, Any]:
        return {
            "kind": "compute#region",
            "name": name,
            "description": name,
            "status": "UP",
            "zones": [f"{self._base}/zones/{zone}" for zone in self.cloud.catalog.regions[name]],
            "quotas": self._quotas(self.cloud.quotas[name], name),
        }

    def _list_regions(self, request: Request) -> Any:
        return self._paged(request, [self._region(name) for name in self.cloud.catalog.regions])

    def _get_region(self, request: Request) -> Any:
        name = request.groups["region"]
        if name not in self.cloud.catalog.regions:
            path = f"projects/{self.cloud.project}/regions/{name}"
            raise ApiError(404, "notFound", f"The resource '{path}' was not found")
        return self._region(name)

    def _get_network(self, request: Request) -> Any:
        return {"name": request.groups["name"], "privateIpGoogleAccess": True}

    def _list_types(self, request: Request) -> Any:
        zone = request.groups["zone"]
        if zone not in self.cloud.catalog.types:
            raise ApiError(400, "invalid", f"Invalid value for field 'zone': '{zone}'. Unknown zone.")
        return self._paged(
            request, [machine_type.resource(zone) for machine_type in self.cloud.catalog.types[zone].values()]
        )

    def _paged(self, request: Request, resources: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        filter = request.query.get("filter", "")
        matches(filter, {})  # validates the filter even without resources
        items, token = page([each for each in resources if matches(filter, each)], request.query, self.page_size)
        return {"items": list(items), **({"nextPageToken": token} if token else {})}

    # images

    def _images(self, project: str) -> list[dict[str, Any]]:
        found = []
        for each in self.cloud.images:
            if each["project"] == project:
                image: dict[str, Any] = {
                    "kind": "compute#image",
                    "name": each["name"],
                    "family": each["family"],
                    "architecture": each.get("arch", "X86_64"),
                    "status": each.get("status", "READY"),
                    "labels": each.get("labels", {}),
                    "diskSizeGb": each.get("disk_gb", "10"),
                    "description": f"{each['family']} image",
                    "creationTimestamp": "2025-10-21T08:00:00.000-07:00",
                }
                if not image["architecture"]:
                    del image["architecture"]
                if "deprecated" in each:
                    replacement = f"projects/{project}/global/images/family/{each['family']}"
                    image["deprecated"] = {"state": each["deprecated"], "replacement": replacement}
                found.append(image)
        return found

    def _list_images(self, request: Request) -> Any:
        return self._paged(request, self._images(request.groups["project"]))

    def _get_image(self, request: Request) -> Any:
        return self._one_image(request, "name", request.groups["image"])

    def _get_family(self, request: Request) -> Any:
        return self._one_image(request, "family", request.groups["family"])

    def _one_image(self, request: Request, key: str, value: str) -> Any:
        project = request.groups["project"]
        for image in self._images(project):
            if image[key] == value and (key == "name" or "deprecated" not in image):
                return image
        path = f"projects/{project}/global/images/{value}"
        raise ApiError(404, "notFound", f"The resource '{path}' was not found")

    def _insert_image(self, request: Request) -> Any:
        operation = self.cloud.own_images.insert(request.json(), request.query.get("requestId", ""))
        return operation.resource(self._base)

    def _delete_image(self, request: Request) -> Any:
        operation = self.cloud.own_images.delete(request.groups["image"], request.query.get("requestId", ""))
        return operation.resource(self._base)

    # instances and disks

    def _insert(self, request: Request) -> Any:
        operation = self.cloud.insert(request.groups["zone"], request.json(), request.query.get("requestId", ""))
        return operation.resource(self._base)

    def _get_instance(self, request: Request) -> Any:
        with self.cloud.lock:
            return self.cloud.instance(request.groups["zone"], request.groups["name"]).resource(self._base)

    def _delete_instance(self, request: Request) -> Any:
        groups = request.groups
        operation = self.cloud.delete_instance(groups["zone"], groups["name"], request.query.get("requestId", ""))
        return operation.resource(self._base)

    def _stop_instance(self, request: Request) -> Any:
        groups = request.groups
        operation = self.cloud.stop_instance(groups["zone"], groups["name"], request.query.get("requestId", ""))
        return operation.resource(self._base)

    def _delete_disk(self, request: Request) -> Any:
        groups = request.groups
        operation = self.cloud.delete_disk(groups["zone"], groups["name"], request.query.get("requestId", ""))
        return operation.resource(self._base)

    def _list_disks(self, request: Request) -> Any:
        zone = request.groups["zone"]
        with self.cloud.lock:
            found = [each.resource(self._base) for each in self.cloud.disks.values() if each.zone == zone]
        return self._paged(request, found)

    def _operation(self, request: Request, wait: float) -> Any:
        return self.cloud.wait(request.groups["name"], wait).resource(self._base)

    def _serial_port(self, request: Request) -> Any:
        text = self.cloud.console(request.groups["zone"], request.groups["name"])
        start = int(request.query.get("start", 0))
        return {"contents": text[start:], "start": str(start), "next": str(len(text))}

    def _aggregated_instances(self, request: Request) -> Any:
        with self.cloud.lock:
            latest = self.cloud.timeline.now() - self.cloud.times.listing
            found = [(i.zone, i.resource(self._base)) for i in self.cloud.instances.values() if i.created <= latest]
        return self._aggregated(request, "instances", found)

    def _aggregated_disks(self, request: Request) -> Any:
        with self.cloud.lock:
            found = [(each.zone, each.resource(self._base)) for each in self.cloud.disks.values()]
        return self._aggregated(request, "disks", found)

    def _aggregated(self, request: Request, kind: str, found: list[tuple[str, dict[str, Any]]]) -> Any:
        """Return one page over all zones: each zone with its resources, or with a warning that it has none.

        A zone that does not answer fails the call, unless the request accepts partial success.
        """
        if self.unreachable_zones and request.query.get("returnPartialSuccess") != "true":
            raise ApiError(503, "backendError", f"Zones do not answer: {', '.join(sorted(self.unreachable_zones))}")
        filter = request.query.get("filter", "")
        matches(filter, {})  # refuses one that is not understood, whatever there is to filter
        passed = sorted(
            ((zone, each) for zone, each in found if matches(filter, each) and zone not in self.unreachable_zones),
            key=lambda entry: (entry[0], entry[1]["name"]),
        )
        shown, token = page(passed, request.query, self.page_size)
        nothing = {"code": "NO_RESULTS_ON_PAGE", "message": "There are no results for this scope on this page."}
        items: dict[str, Any] = {}
        for zone in self.cloud.catalog.zones:
            in_zone = [each for where, each in shown if where == zone]
            items[f"zones/{zone}"] = {kind: in_zone} if in_zone else {"warning": nothing}
        answer: dict[str, Any] = {"items": items}
        if token:
            answer["nextPageToken"] = token
        elif self.unreachable_zones:
            answer["unreachables"] = [
                f"projects/{self.cloud.project}/zones/{z}" for z in sorted(self.unreachable_zones)
            ]
        return answer
