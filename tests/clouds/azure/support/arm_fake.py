"""Azure Resource Manager fake on loopback: the REST API over `Cloud`, for the real SDKs.

In the test's process: ``with ArmFake(folder) as fake:``. As a separate process, for tests that kill controllers:
``ArmProcess`` of `arm_process`. Tests control it (evict, stock out, fail calls) through a second port, the admin port,
to which no fault applies.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from arm_account import serve_account
from arm_admin import evict, state_of
from arm_catalog import IMAGES, LOCATIONS, SIZES
from arm_checks import usage
from arm_cloud import Cloud
from arm_models import body_of_kind
from arm_records import ArmError, Operation, StockOut, Times, VirtualMachine, api_time
from arm_setup import serve_setup
from fake_cloud import FakeCloud
from fake_server import Answer, Request

__all__ = ["SUBSCRIPTION", "ArmFake"]

SUBSCRIPTION = "00000000-0000-0000-0000-00000000a2e0"

_ROOT = r"(?i)/subscriptions/(?P<subscription>[^/]+)"
_GROUP = rf"{_ROOT}/resourceGroups/(?P<group>[^/]+)"
_MACHINE = rf"{_GROUP}/providers/Microsoft\.Compute/virtualMachines/(?P<name>[^/]+)"
_NETWORK = r"virtualNetworks|networkSecurityGroups"
_PART = rf"Microsoft\.Compute/disks|Microsoft\.Network/(?:networkInterfaces|publicIPAddresses|{_NETWORK})"
_OPERATION = (
    rf"{_ROOT}/providers/Microsoft\.(?:Compute|Network|Resources)/locations/[^/]+/operations/(?P<operation>[^/]+)"
)
_IMAGE_VERSIONS = (
    r"publishers/(?P<publisher>[^/]+)/artifacttypes/vmimage/offers/(?P<offer>[^/]+)/skus/(?P<sku>[^/]+)/versions"
)
_FILTER = re.compile(r"tagName eq '(?P<name>(?:[^']|'')+)'(?: and tagValue eq '(?P<value>(?:[^']|'')*)')?")
_MAX_PAGE = 200
_SKU_PAGE = 40


class ArmFake(FakeCloud[Cloud]):
    """The running fake; its `url` is the value of `management_endpoint`.

    Args:
        folder: Parent of the VMs' folders.
        page_size: Maximum entries per page of a listing.
        storage: For a subscription in which nothing is set up: connection string of the account behind every storage
            account.
    """

    def __init__(
        self,
        folder: Path,
        *,
        subscription: str = SUBSCRIPTION,
        times: Times | None = None,
        guest_environment: Mapping[str, str] | None = None,
        page_size: int = _MAX_PAGE,
        seed: int = 1,
        storage: str = "",
    ) -> None:
        cloud = Cloud(folder, subscription=subscription, times=times, guest_environment=guest_environment)
        super().__init__(cloud, stock_out=StockOut, seed=seed)
        self.page_size = page_size
        self.broken_pages = False
        """Whether every page of a listing but the first fails."""
        self.retry_after = ""
        """``Retry-After`` of operation responses, in seconds; empty: none."""
        self.subscription = serve_setup(self, storage) if storage else None
        self._routes()
        self.account = serve_account(self)
        self.admin.route("POST", "/evict", lambda request: evict(self.cloud, **request.json()))

    def state(self) -> dict[str, Any]:
        return state_of(self)

    def evict(self, name: str | None = None, *, oldest: int = 0) -> list[str]:
        """Evict the VM of this name, or the oldest running spot VMs, and return the names."""
        return evict(self.cloud, name, oldest)

    # -- the API --

    def _routes(self) -> None:
        def route(method: str, path: str, handler: Callable[[Request], Any]) -> None:
            self.server.route(method, path, functools.partial(self.answer, handler))

        compute = rf"{_ROOT}/providers/Microsoft\.Compute"
        route("GET", rf"{_ROOT}/providers/Microsoft\.Compute", self.provider)
        route("GET", rf"{compute}/skus", self._skus)
        route("GET", rf"{compute}/locations/(?P<location>[^/]+)/usages", self._usages)
        route("GET", rf"{compute}/images", lambda request: self._paged(request, []))
        route("GET", rf"{compute}/virtualMachines", self._list_machines)
        route(
            "GET", rf"{_ROOT}/providers/Microsoft\.Network/locations/(?P<location>[^/]+)/usages", self._network_usages
        )
        route("GET", rf"{compute}/locations/(?P<location>[^/]+)/{_IMAGE_VERSIONS}", self._image_versions)
        route("GET", rf"{compute}/locations/(?P<location>[^/]+)/{_IMAGE_VERSIONS}/(?P<version>[^/]+)", self._image)
        route("GET", rf"{_ROOT}/providers/(?P<kind>{_PART})", self._list_kind)
        route("GET", rf"{_ROOT}/resources", self._list_resources)
        route("GET", rf"{_ROOT}/resourceGroups", self._list_groups)
        for method, handler in (
            ("HEAD", self._head_group),
            ("GET", lambda request: self.cloud.group(request.groups["group"])),
            ("PUT", lambda request: self.cloud.put_group(request.groups["group"], request.json())),
            ("DELETE", self.delete_group),
        ):
            route(method, _GROUP, handler)
        route("GET", rf"{_GROUP}/resources", self._list_resources)
        network = rf"{_GROUP}/providers/(?P<kind>Microsoft\.Network/(?:{_NETWORK}))/(?P<name>[^/]+)"
        route("PUT", network, self._put_network)
        route("GET", rf"{_GROUP}/providers/(?P<kind>{_PART})/(?P<name>[^/]+)", self._get_resource)
        route("DELETE", rf"{_GROUP}/providers/(?P<kind>{_PART})/(?P<name>[^/]+)", self._delete_resource)
        route("PUT", _MACHINE, self._put_machine)
        route("GET", _MACHINE, self._get_machine)
        route("DELETE", _MACHINE, self._delete_machine)
        route("POST", rf"{_MACHINE}/retrieveBootDiagnosticsData", self._diagnostics)
        self.cloud.images.serve(route, _GROUP, self._accepted, self._machine)
        route("GET", _OPERATION, self._operation)
        route("GET", rf"{_ROOT}/operationresults/(?P<operation>[^/]+)", self._operation_result)
        self.server.route("GET", r"/fake/console/(?P<name>[^/]+)", self._console)

    def answer(self, handler: Callable[[Request], Any], request: Request) -> Answer:
        """Answer a request, or refuse it with the error of the handler."""
        try:
            if request.groups["subscription"] != self.cloud.subscription:
                raise ArmError(404, "SubscriptionNotFound", "The subscription could not be found.")
            if "api-version" not in request.query:
                raise ArmError(400, "MissingApiVersionParameter", "The api-version query parameter is required.")
            answer = handler(request)
            return answer if isinstance(answer, Answer) else Answer(body=answer)
        except ArmError as problem:
            return Answer(status=problem.status, body={"error": problem.error})

    @property
    def _base(self) -> str:
        return f"{self.url}/subscriptions/{self.cloud.subscription}"

    def _resource_id(self, request: Request, kind: str = "") -> str:
        groups = request.groups
        group = f"/subscriptions/{self.cloud.subscription}/resourceGroups/{groups['group']}"
        return f"{group}/providers/{kind or groups['kind']}/{groups['name']}"

    def _paged(self, request: Request, items: list[Any], *, size: int | None = None) -> dict[str, Any]:
        size = size or self.page_size
        start = int(request.query.get("$skiptoken", 0))
        if start and self.broken_pages:
            raise ArmError(500, "InternalServerError", "An internal error occurred.")
        answer: dict[str, Any] = {"value": items[start : start + size]}
        if start + size < len(items):
            query = "&".join(f"{key}={value}" for key, value in request.query.items() if key != "$skiptoken")
            query = query.replace(" ", "%20").replace("'", "%27")
            answer["nextLink"] = f"{self.url}{request.path}?{query}&$skiptoken={start + size}"
        return answer

    def _accepted(self, operation: Operation | None, status: int, body: Any = b"", *, polled: str = "async") -> Answer:
        """Return the response to a request with a running operation."""
        if operation is None:
            return Answer(status=204)
        operation_url = f"{self._base}/providers/Microsoft.Compute/locations/eastus/operations/{operation.name}"
        result = f"{self._base}/operationresults/{operation.name}?api-version=2021-04-01"
        headers = {"Azure-AsyncOperation": f"{operation_url}?api-version=2024-07-01"} if polled == "async" else {}
        headers["Location"] = result
        if self.retry_after:
            headers["Retry-After"] = self.retry_after
        return Answer(status=status, body=body, headers=headers)

    def _operation(self, request: Request) -> Any:
        operation = self.cloud.operations.get(request.groups["operation"])
        if operation is None:
            raise ArmError(404, "NotFound", "The operation could not be found.")
        headers = {"Retry-After": self.retry_after} if self.retry_after and operation.ended is None else {}
        return Answer(body=operation.resource(), headers=headers)

    def _operation_result(self, request: Request) -> Any:
        operation = self.cloud.operations[request.groups["operation"]]
        if operation.ended is None:
            return Answer(status=202, headers={"Location": f"{self.url}{request.path}?api-version=2021-04-01"})
        if operation.problem is not None:
            raise operation.problem
        return Answer(status=200, body={})

    # catalog

    def provider(self, request: Request) -> Any:
        """Return the description of Microsoft.Compute."""
        mappings = [
            {"location": display_name, "zones": list(zones)} for display_name, zones in LOCATIONS.values() if zones
        ]
        kind = {
            "resourceType": "virtualMachines",
            "locations": [display_name for display_name, _ in LOCATIONS.values()],
            "zoneMappings": mappings,
            "apiVersions": ["2024-07-01"],
        }
        return {"namespace": "Microsoft.Compute", "registrationState": "Registered", "resourceTypes": [kind]}

    def _skus(self, request: Request) -> Any:
        match = re.fullmatch(r"location eq '(\w+)'", request.query.get("$filter", ""))
        wanted = [match[1]] if match is not None else list(LOCATIONS)
        skus = [size.resource(location) for location in wanted if location in LOCATIONS for size in SIZES.values()]
        disk = {"resourceType": "disks", "name": "Premium_LRS", "locations": wanted, "capabilities": []}
        return self._paged(request, [disk, *skus], size=_SKU_PAGE)

    def _usages(self, request: Request) -> Any:
        location = request.groups["location"]
        if location not in LOCATIONS:
            raise ArmError(400, "NoRegisteredProviderFound", f"The location '{location}' is not known.")
        with self.cloud.lock:
            used, limits = usage(self.cloud, location), self.cloud.quotas[location]
        items = [
            {
                "name": {"value": name, "localizedValue": name},
                "unit": "Count",
                "currentValue": used[name],
                "limit": each,
            }
            for name, each in sorted(limits.items())
        ]
        return self._paged(request, items)

    def _network_usages(self, request: Request) -> Any:
        used = len(self.cloud.find(lambda each: each["type"].endswith("publicIPAddresses")))
        limit = self.cloud.max_addresses
        names = ("PublicIPAddresses", "StaticPublicIPAddresses", "IPv4StandardSkuPublicIpAddresses")
        items = [{"name": {"value": name}, "unit": "Count", "currentValue": used, "limit": limit} for name in names]
        return self._paged(request, items)

    def _image_versions(self, request: Request) -> Answer:
        # An array without pages.
        return Answer(body=[{"name": version, "location": "eastus"} for version in self._versions(request)])

    def _image(self, request: Request) -> Any:
        if request.groups["version"] not in self._versions(request):
            raise ArmError(404, "NotFound", "Artifact: VMImage was not found.")
        facts = IMAGES[tuple(request.groups[name] for name in ("publisher", "offer", "sku"))]
        disk = {"operatingSystem": "Linux", "sizeInGb": facts.size_gb}
        plan = {"plan": facts.plan} if facts.plan else {}
        return {
            "name": request.groups["version"],
            "properties": {"osDiskImage": disk, "architecture": facts.architecture, **plan},
        }

    @staticmethod
    def _versions(request: Request) -> tuple[str, ...]:
        facts = IMAGES.get(tuple(request.groups[name] for name in ("publisher", "offer", "sku")))
        if facts is None:
            raise ArmError(404, "NotFound", "Artifact: VMImage was not found.")
        return ("1.9.20250101", "1.10.20250601")

    # groups and resources

    def _head_group(self, request: Request) -> Answer:
        known = request.groups["group"].lower() in self.cloud.groups
        return Answer(status=204 if known else 404)

    def delete_group(self, request: Request) -> Answer:
        """Begin to delete a group."""
        return self._accepted(self.cloud.delete_group(request.groups["group"]), 202, polled="location")

    def _list_groups(self, request: Request) -> Any:
        with self.cloud.lock:
            groups = [each for each in self.cloud.groups.values() if _has_tag(each, request)]
        return self._paged(request, groups)

    def _list_resources(self, request: Request) -> Any:
        group = request.groups.get("group")
        if group is not None:
            self.cloud.group(group)
        part = f"/resourcegroups/{(group or '').lower()}/"
        found = self.cloud.find(lambda each: _has_tag(each, request) and (not group or part in each["id"].lower()))
        # With a filter by tag, "the tags for each resource are not returned in the results".
        filtered = "tagName" in request.query.get("$filter", "")
        kept = ("id", "name", "type", "location", "managedBy", *(() if filtered else ("tags",)))
        return self._paged(request, [{key: each[key] for key in kept if key in each} for each in found])

    def _list_kind(self, request: Request) -> Any:
        kind = request.groups["kind"].lower()
        return self._paged(request, self.cloud.find(lambda each: each["type"].lower() == kind))

    def _put_network(self, request: Request) -> Answer:
        kind = request.groups["kind"]
        resource, operation = self.cloud.put(self._resource_id(request), kind, body_of_kind(request, kind))
        return self._accepted(operation, 201, resource)

    def _get_resource(self, request: Request) -> Any:
        found = self.cloud.resources.get(self._resource_id(request).lower())
        if found is None:
            raise ArmError(404, "ResourceNotFound", f"The Resource '{request.groups['name']}' was not found.")
        return found

    def _delete_resource(self, request: Request) -> Answer:
        return self._accepted(self.cloud.delete(self._resource_id(request)), 202)

    # VMs

    def _machine(self, request: Request) -> VirtualMachine:
        self.cloud.group(request.groups["group"])
        key = self._resource_id(request, "Microsoft.Compute/virtualMachines").lower()
        found = self.cloud.machines.get(key)
        if found is None:
            raise ArmError(404, "ResourceNotFound", f"The Resource '{request.groups['name']}' was not found.")
        return found

    def _put_machine(self, request: Request) -> Answer:
        must_be_new = request.headers.get("if-none-match") == "*"
        kind = "Microsoft.Compute/virtualMachines"
        body = body_of_kind(request, kind)
        vm, operation = self.cloud.create(self._resource_id(request, kind), body, must_be_new=must_be_new)
        return self._accepted(operation, 201, _public_view(vm))

    def _get_machine(self, request: Request) -> Any:
        with self.cloud.lock:
            return _public_view(self._machine(request))

    def _delete_machine(self, request: Request) -> Answer:
        forced = request.query.get("forceDeletion", "").lower() == "true"
        kind = "Microsoft.Compute/virtualMachines"
        return self._accepted(self.cloud.delete_machine(self._resource_id(request, kind), forced=forced), 202)

    def _list_machines(self, request: Request) -> Any:
        with self.cloud.lock:
            found = [
                _status(each) if request.query.get("statusOnly", "").lower() == "true" else _public_view(each)
                for each in self.cloud.machines.values()
                if each.created + self.cloud.times.listing_lag <= self.cloud.timeline.now()
            ]
        return self._paged(request, found)

    def _diagnostics(self, request: Request) -> Any:
        vm = self._machine(request)
        if not vm.resource["properties"].get("diagnosticsProfile", {}).get("bootDiagnostics", {}).get("enabled"):
            raise ArmError(409, "OperationNotAllowed", "Boot diagnostics is not enabled for the machine.")
        return {"serialConsoleLogBlobUri": f"{self.url}/fake/console/{vm.name}?sig=very-secret"}

    def _console(self, request: Request) -> Answer:
        if request.query.get("sig") != "very-secret":
            return Answer(status=403, body="AuthenticationFailed")
        return Answer(body=self.cloud.console(request.groups["name"]))


def _has_tag(resource: dict[str, Any], request: Request) -> bool:
    text = request.query.get("$filter", "")
    if not text:
        return True
    match = _FILTER.fullmatch(text)
    if match is None:
        raise ArmError(400, "InvalidFilterInQueryString", f"Invalid $filter '{text}' specified in the query string.")
    value = resource.get("tags", {}).get(match["name"].replace("''", "'"))
    return value is not None and (match["value"] is None or value == match["value"].replace("''", "'"))


def _public_view(vm: VirtualMachine) -> dict[str, Any]:
    """Return the resource without its write-only properties."""
    properties = {**vm.resource["properties"]}
    properties["osProfile"] = {key: value for key, value in properties["osProfile"].items() if key != "customData"}
    return {**vm.resource, "properties": properties}


def _status(vm: VirtualMachine) -> dict[str, Any]:
    statuses: list[dict[str, str]] = [{"code": f"ProvisioningState/{vm.state.lower()}", "level": "Info"}]
    if vm.provisioned is not None:
        statuses[0]["time"] = api_time(vm.provisioned)
    if vm.power and vm.power != "creating":
        statuses.append({"code": f"PowerState/{vm.power}", "level": "Info"})
    keys = ("id", "name", "type", "location")
    view = {"instanceView": {"statuses": statuses}, "provisioningState": vm.state}
    return {**{key: vm.resource[key] for key in keys}, "properties": view}
