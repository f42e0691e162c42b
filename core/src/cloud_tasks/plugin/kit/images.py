"""Boot images by name.

Invariants, each with a test:

1. An image is looked up once for any number of launches and threads; a failed look-up is repeated.
2. A missing image is an `InputError` that names the setting and the remedy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Generic, TypeVar

from cloud_tasks.errors import InputError
from cloud_tasks.model import Architecture, Image

__all__ = ["ImageResolver", "newest_images"]

I = TypeVar("I")  # noqa: E741 - an image as the provider describes it


class ImageResolver(Generic[I]):
    """Images by name and architecture. Thread-safe.

    Args:
        look_up: Return what a launch needs of an image, or None if there is none. The name is None for the default
            image of the architecture.
        hint: Remedy for a missing image: ``list images with: cloud-tasks list-images``.
    """

    def __init__(self, look_up: Callable[[str | None, Architecture], I | None], *, hint: str) -> None:
        self._look_up = look_up
        self._hint = hint
        self._lock = threading.Lock()
        self._known: dict[tuple[str | None, Architecture], I] = {}

    def resolve(self, name: str | None, architecture: Architecture) -> I:
        """Return the image that `LaunchRequest.image` names.

        Raises:
            InputError: No such image exists for the architecture.
        """
        with self._lock:
            key = (name, architecture)
            if key not in self._known:
                found = self._look_up(name, architecture)
                if found is None:
                    shown = f'image "{name}"' if name is not None else "default image"
                    raise InputError(f"{shown} not found for {architecture.value}", where="run.image", hint=self._hint)
                self._known[key] = found
            return self._known[key]


def newest_images(images: Iterable[Image]) -> tuple[Image, ...]:
    """Return the newest image of each name, architecture and owner, newest first."""
    found: dict[tuple[str, Architecture, str], Image] = {}
    for image in sorted(images, key=lambda image: image.created_at or datetime.min.replace(tzinfo=UTC), reverse=True):
        found.setdefault((image.name, image.architecture, image.owner), image)
    return tuple(found.values())
