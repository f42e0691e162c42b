"""Boot images: the default of an architecture, well-known names, URNs, and ids of the user's images.

``run.image`` is a URN (``Canonical:ubuntu-24_04-lts:server:latest``), the short name of a well-known image
(``debian-12``), a resource id, or the name of a managed image in the subscription.

Invariants, each with a test:

1. A name is looked up once, for any number of launches. A missing image is an `InputError`.
2. A launch sends the plan of an image that has one, and a disk as large as the image.
3. An image of another architecture is an `InputError`, not a refusal of one size after another.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import attrs
from azure.mgmt.core.tools import parse_resource_id

from cloud_tasks.errors import InputError, LaunchRefusedError, NotFoundError, ProviderError, RefusalScope
from cloud_tasks.model import Architecture, Image
from cloud_tasks_azure.compute.arm import COMPUTE, GALLERIES, Arm
from cloud_tasks_azure.compute.compute_errors import translate_errors

__all__ = ["DEFAULT_IMAGE", "BootImage", "ImageResolver", "has_gpu_driver", "well_known_images"]

DEFAULT_IMAGE = "ubuntu-24_04-lts"


@attrs.frozen(kw_only=True)
class BootImage:
    """What a launch needs of an image."""

    reference: Mapping[str, str]
    """Image reference of the API."""
    plan: Mapping[str, str] | None = None
    """Purchase plan of a marketplace image, which a launch has to repeat."""
    min_disk_gb: int | None = None
    """Size in GiB; None if Azure does not report it."""
    architecture: Architecture | None = None
    """None if Azure does not report it, as for managed images."""
    generation: str = ""
    """Hypervisor generation, ``V1`` or ``V2``; empty if Azure does not report it."""


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


# Ubuntu 22.04 is not among them: its Python is 3.10, and the worker needs 3.11.
_WELL_KNOWN: Mapping[str, _Offer] = {
    "ubuntu-24_04-lts": _Offer(
        publisher="Canonical",
        offer="ubuntu-24_04-lts",
        description="Ubuntu 24.04 LTS",
        gen2="server",
        gen1="server-gen1",
        arm64="server-arm64",
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
"""Free marketplace offers of up to 30 GiB, with cloud-init and Python 3.11 or later."""

_ARCHITECTURES: Mapping[str, Architecture] = {"x64": Architecture.X86_64, "arm64": Architecture.ARM64}
_URN = re.compile(r"[\w.-]+:[\w.-]+:[\w.-]+:[\w.-]+")
_IDS = ("/subscriptions/", "/communitygalleries/", "/sharedgalleries/")
_ARCHITECTURE = "choose an image of the architecture, or set run.architecture"
_HINT = "list images with: cloud-tasks list-images"


def has_gpu_driver(name: str | None) -> bool:
    """Return whether an image may have a GPU driver: the well-known ones have none."""
    return (name or DEFAULT_IMAGE).lower() not in _WELL_KNOWN


class ImageResolver:
    """Images available to one subscription; each name is looked up once. Thread-safe."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self._lock = threading.Lock()
        self._known: dict[str, BootImage] = {}

    def list(self) -> tuple[Image, ...]:
        """Return the well-known images and the subscription's own."""
        return (*well_known_images(), *(_image(str(each["name"]), _managed(each)) for each in self._listed()))

    def resolve(
        self,
        image: str | None,
        architecture: Architecture,
        location: str,
        generations: frozenset[str] = frozenset(),
    ) -> BootImage:
        """Return the image of a name; None selects the default.

        Args:
            location: Location of the VM.
            generations: Hypervisor generations that the VM size supports; empty if there is no size.

        Raises:
            InputError: Not found, or of another architecture.
            LaunchRefusedError: The size does not support the image's generation.
        """
        name = image or DEFAULT_IMAGE
        known = _WELL_KNOWN.get(name.lower())
        if known is not None:
            is_arm = architecture is Architecture.ARM64
            plan = known.arm64 if is_arm else known.gen1 if generations == {"V1"} else known.gen2
            return BootImage(reference=_reference(known.urn(plan)))
        with self._lock:
            if name not in self._known:
                self._known[name] = self._look_up(name, location)
            found = self._known[name]
        if found.architecture is not None and found.architecture is not architecture:
            raise InputError(f'image "{name}" is for {found.architecture.value}', where="run.image", hint=_ARCHITECTURE)
        if found.generation and generations and found.generation not in generations:
            raise LaunchRefusedError(
                f'image "{name}" is of the generation {found.generation}',
                scope=RefusalScope.INSTANCE_TYPE,
                retry_after=timedelta(days=1),
                reason="HyperVGeneration",
                hint="choose another image, or exclude the type with run.instance_types",
            )
        return found

    def find(self, name: str | None, architecture: Architecture, location: str) -> Image | None:
        """Return the image of this name with its size; None for a well-known image. Raises `InputError`."""
        if name is None or name.lower() in _WELL_KNOWN:
            return None
        return attrs.evolve(_image(name, self.resolve(name, architecture, location)), architecture=architecture)

    def _look_up(self, name: str, location: str) -> BootImage:
        try:
            if _URN.fullmatch(name):
                return self._marketplace(name, location)
            if name.lower().startswith(_IDS):
                return self._by_id(name)
            found = next((each for each in self._listed() if str(each["name"]).lower() == name.lower()), None)
        except (NotFoundError, KeyError):
            # Or an id without the name of an image.
            found = None
        if found is None:
            raise InputError(f'image "{name}" not found', where="run.image", hint=_HINT)
        return _managed(found)

    def _marketplace(self, urn: str, location: str) -> BootImage:
        publisher, offer, plan, version = urn.split(":")
        reference = _reference(urn)
        try:
            with translate_errors(f"read the image {urn}"):
                images = self._arm.compute().virtual_machine_images
                if version.lower() == "latest":
                    versions = images.list(location, publisher, offer, plan, api_version=COMPUTE)
                    version = max((str(each["name"]) for each in versions), key=_version, default="")
                if not version:
                    raise NotFoundError(f"no version of the image {urn}")
                found = images.get(location, publisher, offer, plan, version, api_version=COMPUTE)
        except NotFoundError:
            raise
        except ProviderError as error:
            if error.transient:
                raise
            # Without the permission, an image without a plan can be launched all the same.
            return BootImage(reference=reference)
        properties = found.get("properties") or {}
        return BootImage(
            reference=reference,
            plan=_plan(properties.get("plan")),
            min_disk_gb=(properties.get("osDiskImage") or {}).get("sizeInGb"),
            **_machine(properties),
        )

    def _by_id(self, name: str) -> BootImage:
        """Return a managed image, or an image of a gallery, whose plan is that of its definition."""
        lower = name.lower()
        if not lower.startswith("/subscriptions/"):
            key = "communityGalleryImageId" if lower.startswith("/communitygalleries/") else "sharedGalleryImageId"
            return BootImage(reference={key: name})
        name = re.sub(r"(?<=/images/)([^/]+)/versions/latest$", r"\1", name, flags=re.IGNORECASE)
        parts = {key: str(text) for key, text in parse_resource_id(name).items()}
        place, image, size = (parts["resource_group"], parts["name"]), {"id": name}, None
        compute = self._arm.compute(parts["subscription"])
        with translate_errors(f"read the image {name}"):
            if parts["type"].lower() != "galleries":
                return attrs.evolve(_managed(compute.images.get(*place, api_version=COMPUTE)), reference=image)
            definition = compute.gallery_images.get(*place, parts["child_name_1"], api_version=GALLERIES)
            if "child_name_2" in parts:
                versions = (*place, parts["child_name_1"], parts["child_name_2"])
                found = compute.gallery_image_versions.get(*versions, api_version=GALLERIES)
                storage = (found.get("properties") or {}).get("storageProfile") or {}
                size = (storage.get("osDiskImage") or {}).get("sizeInGB")
        properties = definition.get("properties") or {}
        return BootImage(
            reference=image,
            plan=_plan(properties.get("purchasePlan")),
            min_disk_gb=size,
            **_machine(properties),
        )

    def _listed(self) -> Any:
        with translate_errors("list images"):
            return list(self._arm.compute().images.list(api_version=COMPUTE))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _machine(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an image requires of a VM, from the properties of an image or of its definition."""
    architecture = _ARCHITECTURES.get(str(properties.get("architecture")).lower())
    return {"architecture": architecture, "generation": str(properties.get("hyperVGeneration") or "")}


def _plan(found: Any) -> dict[str, str] | None:
    return {key: str(found[key]) for key in ("name", "publisher", "product")} if found else None


def _reference(urn: str) -> dict[str, str]:
    publisher, offer, plan, version = urn.split(":")
    return {"publisher": publisher, "offer": offer, "sku": plan, "version": version}


def _managed(image: Mapping[str, Any]) -> BootImage:
    storage = (image.get("properties") or {}).get("storageProfile") or {}
    size = (storage.get("osDisk") or {}).get("diskSizeGB")
    return BootImage(
        reference={"id": str(image.get("id"))}, min_disk_gb=size, **_machine(image.get("properties") or {})
    )


def well_known_images() -> Iterator[Image]:
    """Yield the images that have a short name, for each architecture."""
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


def _image(name: str, found: BootImage) -> Image:
    # Managed images have no architecture; Arm images are in galleries ("Create an Azure Compute Gallery").
    return Image(
        name=name,
        uri=str(found.reference.get("id", name)),
        architecture=Architecture.X86_64,
        owner="self" if "id" in found.reference else str(found.reference.get("publisher", "")),
        min_disk_gb=found.min_disk_gb,
    )
