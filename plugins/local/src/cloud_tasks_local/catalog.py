"""Catalog of the local provider: one region and zone, an image, and instance types that are shares of this machine."""

from __future__ import annotations

import os
import platform

from cloud_tasks.model import Architecture, Image, InstanceType
from cloud_tasks_local.settings import LocalSettings

__all__ = ["REGION", "ZONE", "image", "instance_types"]

REGION = "local"
ZONE = "local-a"


def architecture() -> Architecture:
    return Architecture.ARM64 if platform.machine().lower() in ("aarch64", "arm64") else Architecture.X86_64


def image() -> Image:
    """Return the only image: this machine; a launch ignores its image setting."""
    return Image(
        name="this-machine", uri="this-machine", architecture=architecture(), description="this machine, unchanged"
    )


def instance_types(settings: LocalSettings) -> tuple[InstanceType, ...]:
    """Return ``local-1``, ``local-2``, ``local-4`` … and the whole machine, each with its share of the memory."""
    vcpus = settings.vcpus or len(os.sched_getaffinity(0))
    memory_gb = settings.memory_gb or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    sizes = sorted({2**power for power in range(vcpus.bit_length())} | {vcpus})
    return tuple(
        InstanceType(
            name=f"local-{size}",
            vcpus=size,
            memory_gb=round(memory_gb * size / vcpus, 3),
            architecture=architecture(),
            zones=(ZONE,),
            description="this machine" if size == vcpus else f"{size} of this machine's {vcpus} CPUs",
        )
        for size in sizes
    )
