"""Launch templates and instant fleets of one instance, for the overlay: moto's fleets know no price and no stock."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from xml.etree import ElementTree

from ec2_xml import Ec2Error, Form, add, document, items

__all__ = ["LaunchTemplates", "fleet_answer"]

_DATA = "LaunchTemplateData."
_OVERRIDE = "LaunchTemplateConfigs.1.Overrides"


class LaunchTemplates:
    """The templates there are, each as the parameters of a launch. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Form] = {}

    def create(self, form: Form) -> ElementTree.Element:
        name = form.get("LaunchTemplateName")
        with self._lock:
            if name in self._known:
                code = "InvalidLaunchTemplateName.AlreadyExistsException"
                raise Ec2Error(code, "Launch template name already in use.")
            self._known[name] = Form(
                {key.removeprefix(_DATA): value for key, value in form.values.items() if key.startswith(_DATA)}
            )
        return self._answer("CreateLaunchTemplate", name)

    def delete(self, form: Form) -> ElementTree.Element:
        name = form.get("LaunchTemplateName")
        with self._lock:
            if self._known.pop(name, None) is None:
                code = "InvalidLaunchTemplateName.NotFoundException"
                raise Ec2Error(code, "At least one of the launch templates specified in the request does not exist.")
        return self._answer("DeleteLaunchTemplate", name)

    def describe(self, form: Form) -> ElementTree.Element:
        root = document("DescribeLaunchTemplates")
        container = add(root, "launchTemplates")
        with self._lock:
            for name in self._known:
                add(add(container, "item"), "launchTemplateName", name)
        return root

    def get(self, name: str) -> Form:
        with self._lock:
            if name not in self._known:
                raise Ec2Error("InvalidLaunchTemplateName.NotFoundException", f"There is no template {name}.")
            return self._known[name]

    def _answer(self, action: str, name: str) -> ElementTree.Element:
        root = document(action)
        add(add(root, "launchTemplate"), "launchTemplateName", name)
        return root


def fleet_answer(
    form: Form,
    templates: LaunchTemplates,
    price: Callable[[str, str], float],
    start: Callable[[Form], ElementTree.Element],
) -> ElementTree.Element:
    """Try the overrides, the cheapest first, until one starts; those before it are the errors of the answer.

    Args:
        price: Of an instance type in a subnet.
        start: Carries a `RunInstances` out.
    """
    if form.get("Type") != "instant" or form.get("TargetCapacitySpecification.TotalTargetCapacity") != "1":
        raise Ec2Error("UnsupportedOperation", "only instant fleets of one instance are played")
    market = form.get("TargetCapacitySpecification.DefaultTargetCapacityType")
    template = templates.get(form.get("LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateName"))
    root = document("CreateFleet")
    add(root, "fleetId", f"fleet-{uuid.uuid4()}")
    errors, started = add(root, "errorSet"), add(root, "fleetInstanceSet")
    for kind, subnet in sorted(_overrides(form), key=lambda pair: price(*pair)):
        launch = _launch(template, kind, subnet, market)
        try:
            instances = items(start(launch), "instancesSet")
        except Ec2Error as error:
            entry = add(errors, "item")
            _describe(entry, kind, subnet, market)
            add(entry, "errorCode", error.code)
            add(entry, "errorMessage", error.message)
        else:
            entry = add(started, "item")
            _describe(entry, kind, subnet, market)
            ids = add(entry, "instanceIds")
            for each in instances:
                add(ids, "item", each.findtext("instanceId"))
            add(entry, "instanceType", kind)
            break
    return root


def _overrides(form: Form) -> list[tuple[str, str]]:
    found = []
    number = 1
    while f"{_OVERRIDE}.{number}.InstanceType" in form.values:
        found.append((form.get(f"{_OVERRIDE}.{number}.InstanceType"), form.get(f"{_OVERRIDE}.{number}.SubnetId")))
        number += 1
    return found


def _launch(template: Form, kind: str, subnet: str, market: str) -> Form:
    interface = "NetworkInterface.1.DeviceIndex" in template.values
    values = {
        **template.values,
        "Action": "RunInstances",
        "Version": "2016-11-15",
        "MinCount": "1",
        "MaxCount": "1",
        "InstanceType": kind,
        ("NetworkInterface.1.SubnetId" if interface else "SubnetId"): subnet,
        # An instance of a fleet has a token of EC2's own.
        "ClientToken": f"fleet-{uuid.uuid4()}-0",
    }
    if market == "spot":
        values["InstanceMarketOptions.MarketType"] = "spot"
    return Form(values)


def _describe(entry: ElementTree.Element, kind: str, subnet: str, market: str) -> None:
    override = add(add(entry, "launchTemplateAndOverrides"), "overrides")
    add(override, "instanceType", kind)
    add(override, "subnetId", subnet)
    add(entry, "lifecycle", market)
