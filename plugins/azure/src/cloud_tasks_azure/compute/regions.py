"""Regions with virtual machines and their zones, from the compute provider's description. Pure."""

from __future__ import annotations

from typing import Any

from cloud_tasks.model import Region
from cloud_tasks_azure.compute.zones import location_name, zone_name

__all__ = ["regions_of"]


def regions_of(provider: Any) -> tuple[Region, ...]:
    """Return the regions, sorted by name.

    Args:
        provider: Result of ``providers.get("Microsoft.Compute")``.
    """
    for kind in provider.resource_types or ():
        if str(kind.resource_type).lower() != "virtualmachines":
            continue
        zones = {location_name(each.location): sorted(each.zones or ()) for each in kind.zone_mappings or ()}
        regions = []
        for display_name in kind.locations or ():
            name = location_name(display_name)
            numbers = zones.get(name, [])
            # Sizes or regions without zones are placed in the region as a whole.
            places = (*(zone_name(name, number) for number in numbers), name)
            regions.append(Region(name=name, zones=places, description=display_name))
        return tuple(sorted(regions, key=lambda region: region.name))
    return ()
