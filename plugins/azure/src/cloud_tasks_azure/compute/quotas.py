"""Headroom of the subscription's quotas in a location. Pure: evaluates the result of ``usage.list``.

"Check vCPU quotas": each location has one quota for all cores, one for each family of sizes, and one for all spot
cores; spot cores count against the last only.
"""

from __future__ import annotations

from collections.abc import Mapping

from cloud_tasks.model import Headroom, Offer, ProvisioningModel
from cloud_tasks.plugin.kit import headroom_within

__all__ = ["headroom"]

_CORES = "cores"
_SPOT_CORES = "lowPriorityCores"
_INSTANCES = "virtualMachines"


def headroom(offer: Offer, *, family: str, free: Mapping[str, int]) -> Headroom | None:
    """Return how many more instances of an offer all quotas allow, and the limiting quota; None if none is reported.

    Args:
        family: Quota family of the offer's size.
        free: Remaining amount of each quota, by name in lower case.
    """
    vcpus = offer.instance_type.vcpus
    needs = {_INSTANCES: 1}
    if offer.provisioning_model is ProvisioningModel.SPOT:
        needs[_SPOT_CORES] = vcpus
    else:
        needs[_CORES] = vcpus
        needs[family] = vcpus
    known = {name: free[name.lower()] for name in needs if name.lower() in free}
    return headroom_within(needs.items(), known)
