"""Regions with virtual machines and their zones, from the compute provider's description. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloud_tasks.model import Region
from cloud_tasks_azure.compute.zones import location_name, zone_name

__all__ = ["regions_of"]


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
