"""Images of instances in the overlay: pending, then available or failed, with their snapshots and the disk's content.

moto's images are available at once, and have neither the tags of snapshots nor the disk of their instance. Sources:
"CreateImage", "DeregisterImage" and "Error codes for the Amazon EC2 API" in the EC2 API reference.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import attrs
from ec2_instances import Fleet
from ec2_xml import Ec2Error, Form, add, items, matches, parse, set_text

__all__ = ["Images"]


@attrs.define(kw_only=True)
class _Image:
    name: str
    root_device: str
    disks: ElementTree.Element
    failure: str
    pending: int
    """Number of listings until it is complete."""

    @property
    def state(self) -> str:
        return "pending" if self.pending else "failed" if self.failure else "available"


class Images:
    """The images made of instances, by `CreateImage`. Thread-safe.

    Args:
        ask: Executes a call in moto and returns the body of its response.
    """

    def __init__(self, ask: Callable[[Form], bytes], fleet: Fleet) -> None:
        self._ask = ask
        self._fleet = fleet
        self._guard = threading.RLock()
        self._images: dict[str, _Image] = {}
        self.failure = ""
        """Reason with which new images fail."""
        self.pending = 1
        """Number of listings that show a new image as pending."""
        self.hidden = 0
        """Number of look-ups by id that do not find an image, like a just created one."""

    def create(self, form: Form) -> ElementTree.Element:
        with self._guard:
            name, source = form.get("Name"), self._fleet.get(form.get("InstanceId"))
            for image_id, each in self._images.items():
                if each.name == name:
                    raise Ec2Error("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {image_id}")
            if source is None:
                raise Ec2Error(
                    "InvalidInstanceID.NotFound", f"The instance ID '{form.get('InstanceId')}' does not exist"
                )
            if source.state not in ("running", "stopped"):
                raise Ec2Error("IncorrectState", f"Instance is not in a valid state: {source.state}")
            if source.state == "running" and form.get("NoReboot") != "true":
                # Its boot guard ends it at the second boot.
                self._fleet.power_off(source.instance_id)
            root = parse(self._ask(form.without("TagSpecification", "BlockDeviceMapping", "NoReboot")))
            image_id = root.findtext("imageId", "")
            (made,) = items(self._moto("DescribeImages", {"ImageId.1": image_id}), "imagesSet")
            snapshot = made.findtext("blockDeviceMapping/item/ebs/snapshotId", "")
            found = self._moto("DescribeInstances", {"InstanceId.1": source.instance_id})
            (instance,) = found.iterfind("reservationSet/item/instancesSet/item")
            self._images[image_id] = _Image(
                name=name,
                root_device=instance.findtext("rootDeviceName", ""),
                disks=_disks(form, instance, source.root_gb, snapshot),
                failure=self.failure,
                pending=self.pending,
            )
            self._tag(form, {"image": image_id, "snapshot": snapshot})
            if source.guest is not None and (source.guest.folder / "root" / "usr").exists():
                self._content(image_id).parent.mkdir(exist_ok=True)
                content = str(self._content(image_id))
                subprocess.run(["cp", "-al", str(source.guest.folder / "root"), content], check=True)
            return root

    def template(self, image_id: str) -> Path | None:
        """Return the root folder of a machine from an image; None for one without content."""
        return self._content(image_id) if self._content(image_id).exists() else None

    def check(self, image_id: str) -> None:
        """Refuse the launch from an image that is not available."""
        image = self._images.get(image_id)
        if image is not None and image.state != "available":
            message = f"The image ID '{image_id}' is not available. The image may still be in the pending state."
            raise Ec2Error("InvalidAMIID.Unavailable", message)

    def deregister(self, form: Form) -> ElementTree.Element:
        with self._guard:
            root = parse(self._ask(form))
            self._images.pop(form.get("ImageId"), None)
            shutil.rmtree(self._content(form.get("ImageId")), ignore_errors=True)
            return root

    def look_up(self, form: Form) -> None:
        """Refuse a look-up of an image that is hidden."""
        image_id = form.get("ImageId.1")
        if self.hidden and image_id in self._images:
            self.hidden -= 1
            raise Ec2Error("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")

    def complete(self, root: ElementTree.Element, form: Form) -> None:
        """Give moto's listing the states and disks of these images."""
        container = root.find("imagesSet")
        wanted = form.filters().get("state", ["*"])
        for element in items(root, "imagesSet"):
            image = self._images.get(element.findtext("imageId", ""))
            if image is None or container is None:
                continue
            set_text(element, "imageState", image.state)
            set_text(element, "rootDeviceName", image.root_device)
            if image.state == "failed":
                reason = add(element, "stateReason")
                add(reason, "code", "Client.InternalError")
                add(reason, "message", image.failure)
            for old in element.findall("blockDeviceMapping"):
                element.remove(old)
            element.append(image.disks)
            if not matches(image.state, wanted):
                container.remove(element)
            image.pending = max(0, image.pending - 1)

    def _tag(self, form: Form, ids: dict[str, str]) -> None:
        for number in (1, 2):
            prefix = f"TagSpecification.{number}."
            tags = {
                name.removeprefix(prefix): value
                for name, value in form.values.items()
                if name.startswith(f"{prefix}Tag.")
            }
            if tags:
                self._moto("CreateTags", {"ResourceId.1": ids[form.get(f"{prefix}ResourceType")], **tags})

    def _moto(self, action: str, values: dict[str, str]) -> ElementTree.Element:
        return parse(self._ask(Form({"Action": action, "Version": "2016-11-15", **values})))

    def _content(self, image_id: str) -> Path:
        return self._fleet.folder / "images" / image_id


def _disks(form: Form, instance: ElementTree.Element, root_gb: str, snapshot: str) -> ElementTree.Element:
    """Return the volumes of an instance without those that the call leaves out."""
    left_out = {
        value
        for name, value in form.values.items()
        if name.endswith(".DeviceName") and name.replace(".DeviceName", ".NoDevice") in form.values
    }
    disks = ElementTree.Element("blockDeviceMapping")
    for each in items(instance, "blockDeviceMapping"):
        device = each.findtext("deviceName", "")
        if device in left_out:
            continue
        entry = add(disks, "item")
        add(entry, "deviceName", device)
        ebs = add(entry, "ebs")
        add(ebs, "deleteOnTermination", each.findtext("ebs/deleteOnTermination"))
        if device == instance.findtext("rootDeviceName"):
            add(ebs, "snapshotId", snapshot)
            add(ebs, "volumeSize", root_gb)
    return disks
