"""Regions and zones: ``eastus-1`` is zone 1 of eastus, ``eastus`` the region without a zone. Pure.

Azure numbers the zones of a region from 1, differently for each subscription ("What are availability zones?").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cloud_tasks.model import Region

__all__ = ["location_name", "location_of", "regions_of", "zone_name", "zone_number"]

_ZONE = re.compile(r"(?P<location>[a-z0-9]+)-(?P<number>[0-9])")


def zone_name(location: str, number: str | None) -> str:
    """Return ``eastus-1``, or ``eastus`` without a number."""
    return f"{location}-{number}" if number else location


def zone_number(zone: str) -> str | None:
    """Return ``1`` of ``eastus-1``, or None outside of zones."""
    match = _ZONE.fullmatch(zone)
    return match["number"] if match is not None else None


def location_of(zone: str) -> str:
    """Return ``eastus`` of ``eastus-1``."""
    match = _ZONE.fullmatch(zone)
    return match["location"] if match is not None else zone


def location_name(display_name: str) -> str:
    """Return ``eastus`` of ``East US``: the API uses both."""
    return display_name.replace(" ", "").lower()


def regions_of(provider: Mapping[str, Any]) -> tuple[Region, ...]:
    """Return the regions, sorted by name.

    Args:
        provider: The description of Microsoft.Compute.
    """
    for kind in provider.get("resourceTypes") or ():
        if str(kind.get("resourceType")).lower() != "virtualmachines":
            continue
        mappings = kind.get("zoneMappings") or ()
        zones = {location_name(each["location"]): sorted(each.get("zones") or ()) for each in mappings}
        regions = []
        for display_name in kind.get("locations") or ():
            name = location_name(display_name)
            # Sizes or regions without zones are placed in the region as a whole.
            places = (*(zone_name(name, number) for number in zones.get(name, [])), name)
            regions.append(Region(name=name, zones=places, description=display_name))
        return tuple(sorted(regions, key=lambda region: region.name))
    return ()
