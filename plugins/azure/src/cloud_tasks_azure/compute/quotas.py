"""Headroom of the subscription's quotas in a location. Pure: evaluates what the usages of a location say.

"Check vCPU quotas": each location has one quota for all cores, one for each family of sizes, and one for all spot
cores; spot cores count against the last only. Public addresses have quotas of Microsoft.Network, by default 20 or less
("Public IP address limits").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cloud_tasks.model import Headroom, Offer, ProvisioningModel
from cloud_tasks.plugin.kit import headroom_within

__all__ = ["free_quotas", "headroom"]

_ADDRESSES = ("PublicIPAddresses", "StaticPublicIPAddresses", "IPv4StandardSkuPublicIpAddresses")


def free_quotas(usages: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return the unused amount of each quota, by name in lower case."""
    return {str(each["name"]["value"]).lower(): int(each["limit"]) - int(each["currentValue"]) for each in usages}


def headroom(offer: Offer, *, family: str, free: Mapping[str, int], has_address: bool = False) -> Headroom | None:
    """Return how many more instances of an offer all quotas allow, and the limiting quota; None if none is reported.

    Args:
        family: Quota family of the offer's size.
        free: Result of `free_quotas`.
        has_address: Whether instances get a public address.
    """
    is_spot = offer.provisioning_model is ProvisioningModel.SPOT
    cores = ("lowPriorityCores",) if is_spot else ("cores", family)
    needs = {"virtualMachines": 1, **dict.fromkeys(cores, offer.instance_type.vcpus)}
    if has_address:
        needs |= dict.fromkeys(_ADDRESSES, 1)
    known = {name: free[name.lower()] for name in needs if name.lower() in free}
    return headroom_within(needs.items(), known)
