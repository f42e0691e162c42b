"""Launch templates and instant fleets of one instance: moto's fleets have neither prices nor capacity."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable
from xml.etree import ElementTree

import attrs
from ec2_xml import Ec2Error, Form, add, document, items, matches

__all__ = ["LaunchTemplates", "fleet_answer"]

_DATA = "LaunchTemplateData."
_OVERRIDE = "LaunchTemplateConfigs.1.Overrides"
_TAGS = "TagSpecification.1."
_TRIED = 3
"""Maximum overrides that EC2 tries, as measured by users."""


class LaunchTemplates:
    """Launch templates, each as the parameters of a launch. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Form] = {}
        self._tags: dict[str, dict[str, str]] = {}
        self.hidden = 0
        """Number of lookups that find no template, like just created ones."""

    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._known)

    def create(self, form: Form) -> ElementTree.Element:
        name = form.get("LaunchTemplateName")
        with self._lock:
            if name in self._known:
                code = "InvalidLaunchTemplateName.AlreadyExistsException"
                raise Ec2Error(code, "Launch template name already in use.")
            self._tags[name] = _tags(form)
            self._known[name] = Form(
                {key.removeprefix(_DATA): value for key, value in form.values.items() if key.startswith(_DATA)}
            )
        return self._answer("CreateLaunchTemplate", name)

    def delete(self, form: Form) -> ElementTree.Element:
        name = form.get("LaunchTemplateName")
        with self._lock:
            self._tags.pop(name, None)
            if self._known.pop(name, None) is None:
                code = "InvalidLaunchTemplateName.NotFoundException"
                raise Ec2Error(code, "At least one of the launch templates specified in the request does not exist.")
        return self._answer("DeleteLaunchTemplate", name)

    def describe(self, form: Form) -> ElementTree.Element:
        root = document("DescribeLaunchTemplates")
        container = add(root, "launchTemplates")
        wanted = {name.removeprefix("tag:"): values for name, values in form.filters().items()}
        with self._lock:
            for name, tags in self._tags.items():
                if all(matches(tags.get(tag, ""), values) for tag, values in wanted.items()):
                    add(add(container, "item"), "launchTemplateName", name)
        return root

    def get(self, name: str) -> Form:
        with self._lock:
            hidden, self.hidden = self.hidden > 0, max(0, self.hidden - 1)
            if hidden or name not in self._known:
                raise Ec2Error("InvalidLaunchTemplateName.NotFoundException", f"There is no template {name}.")
            return self._known[name]

    def _answer(self, action: str, name: str) -> ElementTree.Element:
        root = document(action)
        add(add(root, "launchTemplate"), "launchTemplateName", name)
        return root


def _tags(form: Form) -> dict[str, str]:
    """Return the tags of a new launch template."""
    found, number = {}, 1
    while key := form.get(f"TagSpecification.1.Tag.{number}.Key"):
        found[key] = form.get(f"TagSpecification.1.Tag.{number}.Value")
        number += 1
    return found


@attrs.frozen
class _Pool:
    """An override."""

    kind: str
    subnet: str
    priority: float


def fleet_answer(
    form: Form,
    templates: LaunchTemplates,
    price: Callable[[str, str], float],
    start: Callable[[Form], ElementTree.Element],
) -> ElementTree.Element:
    """Try up to three overrides until one starts, as ``instant`` fleets do: the cheapest or the first one first.

    Refused overrides are the errors of the response; if none started, so are the untried ones.

    Args:
        price: Price of an instance type in a subnet.
        start: Executes `RunInstances`.
    """
    if form.get("Type") != "instant" or form.get("TargetCapacitySpecification.TotalTargetCapacity") != "1":
        raise Ec2Error("UnsupportedOperation", "only instant fleets of one instance are supported")
    market = form.get("TargetCapacitySpecification.DefaultTargetCapacityType")
    template = templates.get(form.get("LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateName"))
    pools = _in_order(form, market, price)
    root = document("CreateFleet")
    add(root, "fleetId", f"fleet-{uuid.uuid4()}")
    errors, started = add(root, "errorSet"), add(root, "fleetInstanceSet")
    for pool in pools[:_TRIED]:
        try:
            instances = items(start(_launch(template, form, pool.kind, pool.subnet, market)), "instancesSet")
        except Ec2Error as error:
            code = "InvalidFleetConfiguration" if error.code == "Unsupported" else error.code
            _add_error(errors, pool, market, code, error.message)
        else:
            entry = add(started, "item")
            _describe(entry, pool, market)
            ids = add(entry, "instanceIds")
            for each in instances:
                add(ids, "item", each.findtext("instanceId"))
            add(entry, "instanceType", pool.kind)
            return root
    for pool in pools[_TRIED:]:
        message = "Unable to fulfill capacity due to your request configuration."
        _add_error(errors, pool, market, "UnfulfillableCapacity", message)
    return root


def _in_order(form: Form, market: str, price: Callable[[str, str], float]) -> list[_Pool]:
    pools = _overrides(form)
    if len({(pool.kind, pool.subnet) for pool in pools}) < len(pools):
        raise Ec2Error("InvalidFleetConfig", "The fleet configuration contains duplicate instance pools")
    if market == "spot":
        if form.get("SpotOptions.AllocationStrategy") != "price-capacity-optimized":
            raise Ec2Error("UnsupportedOperation", "only price-capacity-optimized is supported")
        return sorted(pools, key=lambda pool: price(pool.kind, pool.subnet))
    if form.get("OnDemandOptions.AllocationStrategy") == "prioritized":
        return sorted(pools, key=lambda pool: pool.priority)
    return sorted(pools, key=lambda pool: price(pool.kind, pool.subnet))


def _overrides(form: Form) -> list[_Pool]:
    found = []
    number = 1
    while f"{_OVERRIDE}.{number}.InstanceType" in form.values:
        prefix = f"{_OVERRIDE}.{number}"
        found.append(
            _Pool(
                form.get(f"{prefix}.InstanceType"),
                form.get(f"{prefix}.SubnetId"),
                float(form.get(f"{prefix}.Priority", "inf")),
            )
        )
        number += 1
    return found


def _launch(template: Form, fleet: Form, kind: str, subnet: str, market: str) -> Form:
    interface = "NetworkInterface.1.DeviceIndex" in template.values
    # The tags of the fleet request are those of the instance, the template has those of disks and interfaces.
    tags = {name: value for name, value in fleet.values.items() if name.startswith(_TAGS)}
    others = {re.sub(r"^(TagSpecification)\.(\d+)", _next, name): value for name, value in template.values.items()}
    values = {
        **others,
        **tags,
        "Action": "RunInstances",
        "Version": "2016-11-15",
        "MinCount": "1",
        "MaxCount": "1",
        "InstanceType": kind,
        ("NetworkInterface.1.SubnetId" if interface else "SubnetId"): subnet,
        # EC2 sets the token of a fleet's instance.
        "ClientToken": f"fleet-{uuid.uuid4()}-0",
    }
    if market == "spot":
        values["InstanceMarketOptions.MarketType"] = "spot"
    return Form(values)


def _next(match: re.Match[str]) -> str:
    return f"{match[1]}.{int(match[2]) + 1}"


def _add_error(errors: ElementTree.Element, pool: _Pool, market: str, code: str, message: str) -> None:
    entry = add(errors, "item")
    _describe(entry, pool, market)
    add(entry, "errorCode", code)
    add(entry, "errorMessage", message)


def _describe(entry: ElementTree.Element, pool: _Pool, market: str) -> None:
    override = add(add(entry, "launchTemplateAndOverrides"), "overrides")
    add(override, "instanceType", pool.kind)
    add(override, "subnetId", pool.subnet)
    add(entry, "lifecycle", market)
