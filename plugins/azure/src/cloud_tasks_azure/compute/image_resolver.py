"""Boot images: the default of an architecture, well-known names, URNs, and ids of the user's images.

``run.image`` is a URN (``Canonical:ubuntu-24_04-lts:server:latest``), the short name of a well-known image
(``debian-12``), a resource id, or the name of a managed image in the subscription.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from cloud_tasks.errors import InputError
from cloud_tasks.model import Architecture, Image
from cloud_tasks_azure.compute.clients import Clients
from cloud_tasks_azure.compute.compute_errors import translate_errors

__all__ = ["DEFAULT_IMAGE", "ImageResolver", "image_reference"]

DEFAULT_IMAGE = "ubuntu-24_04-lts"


@attrs.frozen(kw_only=True)
class _Offer:
    """A publisher's offer with its plans by hypervisor generation and architecture."""

    publisher: str
    offer: str
    description: str
    gen2: str
    gen1: str
    arm64: str

    def urn(self, plan: str) -> str:
        return f"{self.publisher}:{self.offer}:{plan}:latest"


_WELL_KNOWN: Mapping[str, _Offer] = {
    "ubuntu-24_04-lts": _Offer(
        publisher="Canonical",
        offer="ubuntu-24_04-lts",
        description="Ubuntu 24.04 LTS",
        gen2="server",
        gen1="server-gen1",
        arm64="server-arm64",
    ),
    "ubuntu-22_04-lts": _Offer(
        publisher="Canonical",
        offer="0001-com-ubuntu-server-jammy",
        description="Ubuntu 22.04 LTS",
        gen2="22_04-lts-gen2",
        gen1="22_04-lts",
        arm64="22_04-lts-arm64",
    ),
    "debian-12": _Offer(
        publisher="Debian",
        offer="debian-12",
        description="Debian 12",
        gen2="12-gen2",
        gen1="12",
        arm64="12-arm64",
    ),
}
"""Free marketplace offers with cloud-init ("cloud-init support for virtual machines")."""

_URN = re.compile(r"[\w.-]+:[\w.-]+:[\w.-]+:[\w.-]+")
_IDS = ("/subscriptions/", "/communitygalleries/", "/sharedgalleries/")


class ImageResolver:
    """Images available to one subscription; each name is looked up once. Thread-safe."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}

    def list(self) -> tuple[Image, ...]:
        """Return the well-known images and the subscription's own."""
        return (*_well_known(), *map(_own, self._listed()))

    def resolve(
        self, image: str | None, architecture: Architecture, generations: frozenset[str] = frozenset({"V2"})
    ) -> dict[str, str]:
        """Return the image reference of an image name; None selects the default. Raises `InputError` if not found.

        Args:
            generations: Hypervisor generations that the VM size supports.
        """
        name = image or DEFAULT_IMAGE
        known = _WELL_KNOWN.get(name.lower())
        if known is not None:
            plan = (
                known.arm64 if architecture is Architecture.ARM64 else known.gen2 if "V2" in generations else known.gen1
            )
            return image_reference(known.urn(plan))
        if _URN.fullmatch(name) or name.lower().startswith(_IDS):
            return image_reference(name)
        with self._lock:
            if name not in self._known:
                self._known[name] = self._look_up(name)
            return image_reference(self._known[name])

    def find(self, name: str) -> Image | None:
        """Return the managed image of this name; None for other images, whose size Azure does not report."""
        known = name.lower() in _WELL_KNOWN or _URN.fullmatch(name) or name.lower().startswith(_IDS)
        return None if known else next((_own(each) for each in self._listed() if _is_named(each, name)), None)

    def _look_up(self, name: str) -> str:
        for image in self._listed():
            if _is_named(image, name):
                return str(image.id)
        hint = "list images with: cloud-tasks list-images"
        raise InputError(f'image "{name}" not found', where="run.image", hint=hint)

    def _listed(self) -> tuple[Any, ...]:
        with translate_errors("list images"):
            return tuple(self._clients.compute.images.list())


def _is_named(image: Any, name: str) -> bool:
    return str(image.name).lower() == name.lower()


def image_reference(name: str) -> dict[str, str]:
    """Return the API's image reference of a URN or a resource id."""
    lower = name.lower()
    if lower.startswith("/communitygalleries/"):
        return {"communityGalleryImageId": name}
    if lower.startswith("/sharedgalleries/"):
        return {"sharedGalleryImageId": name}
    if lower.startswith("/"):
        return {"id": name}
    publisher, offer, plan, version = name.split(":")
    return {"publisher": publisher, "offer": offer, "sku": plan, "version": version}


def _well_known() -> Iterator[Image]:
    for name, offer in _WELL_KNOWN.items():
        for plan, architecture in ((offer.gen2, Architecture.X86_64), (offer.arm64, Architecture.ARM64)):
            yield Image(
                name=name,
                uri=offer.urn(plan),
                architecture=architecture,
                family=offer.offer,
                owner=offer.publisher,
                description=offer.description,
            )


def _own(image: Any) -> Image:
    # Managed images have no architecture; Arm images are in galleries ("Create an Azure Compute Gallery").
    disk = getattr(image.storage_profile, "os_disk", None)
    return Image(
        name=str(image.name),
        uri=str(image.id),
        architecture=Architecture.X86_64,
        owner="self",
        min_disk_gb=getattr(disk, "disk_size_gb", None),
    )
