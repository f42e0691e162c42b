"""Shared-core machine types: the share of each vCPU that they sustain.

Source: the Compute Engine documentation, "General-purpose machine family" (E2 shared-core machine types: fractional
vCPUs of 0.25, 0.5 and 1 on two vCPUs; N1 shared-core machine types: f1-micro 0.2, g1-small 0.5).
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["sustained_share"]

_NAMED: Mapping[str, float] = {"f1-micro": 0.2, "g1-small": 0.5}
_E2: Mapping[str, float] = {"micro": 0.125, "small": 0.25, "medium": 0.5}
"""By the word in the name, also of custom types: ``e2-medium``, ``e2-custom-micro-2048``."""
_UNKNOWN = 0.125
"""Share of a type that the API marks as shared and that is in no table: the smallest of a current series."""


def sustained_share(machine_type: str, *, is_shared: bool = False) -> float:
    """Return the share of each vCPU that a machine type sustains; 1 for dedicated cores.

    Args:
        is_shared: Whether the API marks the type as shared-core.
    """
    if machine_type in _NAMED:
        return _NAMED[machine_type]
    series, *words = machine_type.split("-")
    if series == "e2":
        found = next((_E2[word] for word in words if word in _E2), None)
        if found is not None:
            return found
    return _UNKNOWN if is_shared else 1.0
