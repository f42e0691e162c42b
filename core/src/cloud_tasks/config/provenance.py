"""Where a configuration value came from, and what it replaced."""

from __future__ import annotations

import enum
from typing import Any

import attrs

__all__ = ["MASK", "Layer", "Override", "Provenance", "Sourced"]

MASK = "********"
"""What is shown instead of a secret."""


class Layer(enum.IntEnum):
    """The layers, lowest first: a higher one replaces a lower one."""

    DEFAULT = 0
    FILE = 1
    """A key at the top of the file, or in the ``run`` section."""
    SECTION = 2
    """The section of a plugin."""
    ENVIRONMENT = 3
    COMMAND_LINE = 4


@attrs.frozen(kw_only=True)
class Provenance:
    """Where a value was written."""

    layer: Layer
    place: str = ""
    """``file:line``, the name of a variable, or an option; empty for a default."""

    def __str__(self) -> str:
        if self.layer is Layer.DEFAULT:
            return "default"
        if self.layer is Layer.ENVIRONMENT:
            return f"environment ({self.place})"
        if self.layer is Layer.COMMAND_LINE:
            return f"command line ({self.place})"
        return self.place


@attrs.frozen(kw_only=True)
class Sourced:
    """A value as it was written, before it has a type."""

    raw: Any = attrs.field(repr=False)
    origin: Provenance
    is_text: bool = False
    """Whether it was written where only text can be (a variable, an option); the type of its key then decides."""


@attrs.frozen(kw_only=True)
class Override:
    """A written value that another written value replaced; the texts are masked where the key is a secret."""

    key: str
    """Dotted: ``run.min_cpu``."""
    value: str
    origin: Provenance
    replaced: str
    replaced_origin: Provenance

    def __str__(self) -> str:
        return f"{self.key}: {self.value} from {self.origin} replaces {self.replaced} from {self.replaced_origin}"
