"""Where a configuration value was written, and which value it replaced."""

from __future__ import annotations

import enum
from typing import Any

import attrs

__all__ = ["MASK", "Assignment", "Layer", "Override", "Provenance"]

MASK = "********"
"""Shown instead of a secret."""


class Layer(enum.IntEnum):
    """Layers of the configuration, lowest first: a higher one replaces a lower one."""

    DEFAULT = 0
    SETUP = 1
    """Recorded by ``cloud-tasks setup``."""
    FILE = 2
    """A key at the top of the file, or in the ``run`` section."""
    SECTION = 3
    """The section of a plugin."""
    ENVIRONMENT = 4
    COMMAND_LINE = 5


@attrs.frozen(kw_only=True)
class Provenance:
    """Place where a value was written."""

    layer: Layer
    place: str = ""
    """``file:line``, a variable, or an option; empty for a default."""

    @property
    def is_in_file(self) -> bool:
        """Whether it is the configuration file, to whose folder paths are relative; others are to the current one."""
        return self.layer in (Layer.FILE, Layer.SECTION)

    def __str__(self) -> str:
        if self.layer is Layer.DEFAULT:
            return "default"
        if self.layer is Layer.SETUP:
            return f"cloud-tasks setup ({self.place})"
        if self.layer is Layer.ENVIRONMENT:
            return f"environment ({self.place})"
        if self.layer is Layer.COMMAND_LINE:
            return f"command line ({self.place})"
        return self.place


@attrs.frozen(kw_only=True)
class Assignment:
    """One value written for one key, before it has a type."""

    section: str
    """Empty for the keys at the top."""
    key: str
    value: Any = attrs.field(repr=False)
    provenance: Provenance
    is_text: bool = False
    """Whether the place holds text only (a variable, an option), to be read by the type of the key."""

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}" if self.section else self.key


@attrs.frozen(kw_only=True)
class Override:
    """A written value that replaced another written value; secrets are masked."""

    key: str
    """Dotted: ``run.min_cpu``."""
    value: str
    origin: Provenance
    replaced: str
    replaced_origin: Provenance

    def __str__(self) -> str:
        return f"{self.key}: {self.value} from {self.origin} replaces {self.replaced} from {self.replaced_origin}"
