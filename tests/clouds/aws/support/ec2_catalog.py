"""Instance types, zones, images and prices of the overlay: moto's data, read once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

from ec2_xml import Ec2Error, Form, add, document, items, matches, parse

__all__ = ["CatalogData"]

FAMILIES = (
    "t3",
    "t4g",
    "m5",
    "m6g",
    "m7a",
    "c5",
    "c5d",
    "c6i",
    "c7g",
    "r5",
    "c8i",
    "g4dn",
    "p4d",
    "i3",
    "x2gd",
    "inf2",
)
"""Available families: moto has 1,400 types, whose description alone takes an SDK seconds to parse."""
_PER_VCPU_HOUR = 0.0131


class CatalogData:
    """Types, offerings and images of one region, in memory.

    Args:
        ask: Executes a call in moto and returns the body of its response.
    """

    def __init__(self, ask: Callable[[Form], bytes]) -> None:
        wanted = {"instance-type": [f"{family}.*" for family in FAMILIES]}
        types = parse(ask(Form({"Action": "DescribeInstanceTypes", "Version": "2016-11-15"}).with_filters(wanted)))
        self._types = {
            _text(each, "instanceType"): each
            for each in items(types, "instanceTypeSet")
            if _text(each, "instanceType").partition(".")[0] in FAMILIES
        }
        offerings = {"Action": "DescribeInstanceTypeOfferings", "LocationType": "availability-zone"}
        self._zones: dict[str, list[str]] = {}
        request = Form({**offerings, "Version": "2016-11-15"}).with_filters({"instance-type": list(self._types)})
        for each in items(parse(ask(request)), "instanceTypeOfferingSet"):
            self._zones.setdefault(_text(each, "instanceType"), []).append(_text(each, "location"))
        self._ask = ask
        self._architectures: dict[str, str] = {}

    def describe_types(self, form: Form) -> ElementTree.Element:
        wanted = form.numbered("InstanceType")
        unknown = [name for name in wanted if name not in self._types]
        if unknown:
            raise Ec2Error(
                "InvalidInstanceType", f"The following supplied instance types do not exist: [{', '.join(unknown)}]"
            )
        root = document("DescribeInstanceTypes")
        container = add(root, "instanceTypeSet")
        for name, element in self._types.items():
            if not wanted or name in wanted:
                container.append(copy.deepcopy(element))
        return root

    def describe_offerings(self, form: Form) -> ElementTree.Element:
        root = document("DescribeInstanceTypeOfferings")
        container = add(root, "instanceTypeOfferingSet")
        wanted = form.filters().get("instance-type", ["*"])
        for name, zones in self._zones.items():
            for zone in zones if matches(name, wanted) else ():
                offering = add(container, "item")
                add(offering, "instanceType", name)
                add(offering, "locationType", "availability-zone")
                add(offering, "location", zone)
        return root

    def spot_prices(self, form: Form) -> ElementTree.Element:
        """Return the current price of each requested type and zone."""
        filters = form.filters()
        types = form.numbered("InstanceType") or filters.get("instance-type", ["*"])
        zones = [form.get("AvailabilityZone")] if form.get("AvailabilityZone") else None
        zones = zones or filters.get("availability-zone", ["*"])
        products = form.numbered("ProductDescription") or filters.get("product-description", ["*"])
        root = document("DescribeSpotPriceHistory")
        container = add(root, "spotPriceHistorySet")
        since = datetime.now(UTC) - timedelta(minutes=25)
        for name, offered in self._zones.items():
            if not matches(name, types) or "spot" not in self._usage(name):
                continue
            for zone in offered:
                if matches(zone, zones) and matches("Linux/UNIX", products):
                    entry = add(container, "item")
                    add(entry, "instanceType", name)
                    add(entry, "productDescription", "Linux/UNIX")
                    add(entry, "spotPrice", f"{self.spot_price(name, zone):.6f}")
                    add(entry, "timestamp", since.strftime("%Y-%m-%dT%H:%M:%S.000Z"))
                    add(entry, "availabilityZone", zone)
        return root

    def spot_price(self, instance_type: str, zone: str) -> float:
        """Return US dollars per hour: by vCPU, and 5% more expensive from zone to zone."""
        return self.vcpus(instance_type) * _PER_VCPU_HOUR * (1 + 0.05 * (ord(zone[-1]) - ord("a")))

    def vcpus(self, instance_type: str) -> int:
        return int(self._types[instance_type].findtext("vCpuInfo/defaultVCpus", "1"))

    def check(self, instance_type: str, zone: str, image_id: str) -> None:
        """Refuse invalid launches, as EC2 does and moto does not."""
        if instance_type not in self._types:
            raise Ec2Error("InvalidParameterValue", f"Invalid value '{instance_type}' for InstanceType.")
        if not image_id.startswith("ami-") or not image_id[4:].isalnum():
            raise Ec2Error("InvalidAMIID.Malformed", f'Invalid id: "{image_id}" (expecting "ami-...")')
        architecture = self._architecture(image_id)
        if zone not in self._zones[instance_type]:
            raise Ec2Error(
                "Unsupported",
                f"Your requested instance type ({instance_type}) is not supported in your requested "
                f"Availability Zone ({zone}).",
            )
        supported = [
            each.text for each in self._types[instance_type].iterfind("processorInfo/supportedArchitectures/item")
        ]
        if architecture not in supported:
            raise Ec2Error(
                "InvalidParameterValue",
                f"The architecture '{', '.join(str(each) for each in supported)}' of the specified instance type does "
                f"not match the architecture '{architecture}' of the specified AMI.",
            )

    def _architecture(self, image_id: str) -> str:
        if image_id not in self._architectures:
            root = parse(self._ask(Form({"Action": "DescribeImages", "ImageId.1": image_id, "Version": "2016-11-15"})))
            (image,) = items(root, "imagesSet")
            self._architectures[image_id] = _text(image, "architecture")
        return self._architectures[image_id]

    def _usage(self, instance_type: str) -> list[str]:
        return [str(each.text) for each in self._types[instance_type].iterfind("supportedUsageClasses/item")]


def _text(element: ElementTree.Element, tag: str) -> str:
    return element.findtext(tag, "")
