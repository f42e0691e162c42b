"""Zones as this system names them: ``eastus-1`` is zone 1 of eastus, ``eastus`` a region's machines outside of zones.

Azure numbers the zones of each region from 1, and differently for each subscription ("What are availability zones?").
"""

from __future__ import annotations

import re

__all__ = ["location_name", "location_of", "zone_name", "zone_number"]

_ZONE = re.compile(r"(?P<location>[a-z0-9]+)-(?P<number>[0-9])")


def zone_name(location: str, number: str | None) -> str:
    """``eastus-1``; the location alone without a number."""
    return f"{location}-{number}" if number else location


def zone_number(zone: str) -> str | None:
    """``1`` of ``eastus-1``; None outside of zones."""
    match = _ZONE.fullmatch(zone)
    return match["number"] if match is not None else None


def location_of(zone: str) -> str:
    """``eastus`` of ``eastus-1``."""
    match = _ZONE.fullmatch(zone)
    return match["location"] if match is not None else zone


def location_name(shown: str) -> str:
    """``eastus`` of ``East US``: the API answers with either."""
    return shown.replace(" ", "").lower()
