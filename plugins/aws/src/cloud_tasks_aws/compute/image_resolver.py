"""Boot images: Canonical's Ubuntu by default, as published in AWS Systems Manager, or the user's image.

Sources: "Find an AMI" in the EC2 user guide (public parameters), and Canonical's page "Find Ubuntu images with the AWS
Systems Manager" (its parameters and its account).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import attrs

from cloud_tasks.errors import InputError, NotFoundError
from cloud_tasks.model import Architecture, Image
from cloud_tasks.plugin.kit import ImageResolver, newest_images
from cloud_tasks_aws.compute.compute_errors import translate_errors

__all__ = ["AwsImages", "BootImage", "WrongArchitectureError"]

_DEFAULT_PARAMETER = "/aws/service/canonical/ubuntu/server/24.04/stable/current/{cpu}/hvm/ebs-gp3/ami-id"
_CANONICAL = {"aws": "099720109477", "aws-cn": "837727238323", "aws-us-gov": "513442679011"}
"""Canonical's account by partition. Another account may have the same id in another partition."""
_SHOWN = {"canonical": "ubuntu/images/hvm-ssd*/ubuntu-*-server-*", "amazon": "al20*-ami-2*", "self": "*"}
"""Names of the images to list, by owner."""
_PAGE = 1000
"""A listing without a page size fails on an account with many images."""
_HINT = "use `ami-…`, `/aws/service/…` (a public parameter), or [OWNER:]NAME with * as a wildcard"


class WrongArchitectureError(InputError):
    """The image exists for another architecture."""


@attrs.frozen(kw_only=True)
class BootImage:
    """The image properties that a launch needs."""

    image_id: str
    root_device: str
    size_gb: int
    """Size of the image's root volume: the minimum size of a boot disk."""


class AwsImages:
    """Images of one region. Thread-safe.

    Args:
        ssm: Creates the Systems Manager client when a public parameter is needed.
    """

    def __init__(self, ec2: Any, ssm: Any) -> None:
        self._ec2 = ec2
        self._ssm = ssm
        self._resolver = ImageResolver(self._look_up, hint=_HINT)
        self._owners = {"self": "self", "amazon": "amazon"}
        if canonical := _CANONICAL.get(ec2.meta.partition):
            self._owners["canonical"] = canonical

    def resolve(self, name: str | None, architecture: Architecture) -> BootImage:
        """Return the newest image of this name; None selects the default of the architecture.

        Raises:
            InputError: No such image exists.
            WrongArchitectureError: The image is for another architecture.
        """
        return self._resolver.resolve(name, architecture)

    def list(self) -> Sequence[Image]:
        """Return common Canonical and Amazon images and the account's own, newest first."""
        found: dict[str, Image] = {}
        for owner, account in self._owners.items():
            filters = [{"Name": "name", "Values": [_SHOWN[owner]]}, {"Name": "state", "Values": ["available"]}]
            for description in self._describe(Owners=[account], Filters=filters):
                image = _image(description, own=owner == "self")
                if image is not None:
                    found.setdefault(image.uri, image)
        return newest_images(found.values())

    def _look_up(self, name: str | None, architecture: Architecture) -> BootImage | None:
        if name is None:
            cpu = "arm64" if architecture is Architecture.ARM64 else "amd64"
            name = _DEFAULT_PARAMETER.format(cpu=cpu)
        if name.startswith("/"):
            name = self._parameter(name)
        found: Sequence[Mapping[str, Any]] = ()
        if name.startswith("ami-") and "*" not in name:
            # Deprecated images can be launched, but are not listed unless they are asked for.
            with suppress(NotFoundError):
                found = self._describe(ImageIds=[name], IncludeDeprecated=True)
        else:
            owner, _, pattern = name.rpartition(":")
            found = self._describe(
                Owners=[owner] if owner else list(self._owners.values()),
                Filters=[
                    {"Name": "name", "Values": [pattern]},
                    {"Name": "state", "Values": ["available"]},
                    {"Name": "architecture", "Values": [architecture.value]},
                ],
            )
        if not found:
            return None
        chosen = max(found, key=lambda each: str(each.get("CreationDate", "")))
        if chosen.get("Architecture") != architecture.value:
            raise WrongArchitectureError(
                f'image "{name}" is for {chosen.get("Architecture")}, not for {architecture.value}',
                where="run.image",
                hint="choose another image, or set run.architecture",
            )
        return _boot_image(chosen)

    def _parameter(self, name: str) -> str:
        with translate_errors(f"getting the image parameter {name}"):
            return str(self._ssm().get_parameter(Name=name)["Parameter"]["Value"])

    def _describe(self, **arguments: Any) -> Sequence[Mapping[str, Any]]:
        with translate_errors("listing images"):
            # A listing of ids has no pages.
            paging = {} if "ImageIds" in arguments else {"PaginationConfig": {"PageSize": _PAGE}}
            pages = self._ec2.get_paginator("describe_images").paginate(**arguments, **paging)
            return [image for page in pages for image in page["Images"]]


def _boot_image(description: Mapping[str, Any]) -> BootImage:
    root = description.get("RootDeviceName", "/dev/sda1")
    sizes = {each.get("DeviceName"): each.get("Ebs", {}) for each in description.get("BlockDeviceMappings", ())}
    size = int(sizes.get(root, {}).get("VolumeSize", 0))
    return BootImage(image_id=description["ImageId"], root_device=root, size_gb=size)


def _image(description: Mapping[str, Any], *, own: bool) -> Image | None:
    try:
        architecture = Architecture(description["Architecture"])
    except ValueError:
        return None
    created = description.get("CreationDate")
    return Image(
        name=description.get("Name", description["ImageId"]),
        uri=description["ImageId"],
        architecture=architecture,
        owner="self" if own else description.get("OwnerId", ""),
        description=description.get("Description", ""),
        min_disk_gb=_boot_image(description).size_gb or None,
        created_at=None if not created else datetime.fromisoformat(str(created).replace("Z", "+00:00")),
    )
