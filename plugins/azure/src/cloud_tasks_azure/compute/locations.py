"""What the subscription may use in a location: sizes and quotas, read again when they are old. Thread-safe.

"Check vCPU quotas": each location has one quota for all cores, one for each family of sizes, and one for all spot
cores; spot cores count against the last only. Public addresses have quotas of Microsoft.Network, by default 20 or less
("Public IP address limits").

Invariants, each with a test:

1. Concurrent callers for one location make one call.
2. No caller waits for the call for another location.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from cloud_tasks.model import Headroom, Offer, ProvisioningModel
from cloud_tasks.plugin.kit import headroom_within
from cloud_tasks_azure.compute.arm import NETWORK, Arm
from cloud_tasks_azure.compute.catalog import Size, sizes_of
from cloud_tasks_azure.compute.compute_errors import translate_errors
from cloud_tasks_azure.compute.listing import list_skus, list_usages
from cloud_tasks_azure.compute.zones import location_of

__all__ = ["Locations"]

_ADDRESSES = ("PublicIPAddresses", "StaticPublicIPAddresses", "IPv4StandardSkuPublicIpAddresses")
_SIZES_MAX_AGE = timedelta(hours=1)
_QUOTAS_MAX_AGE = timedelta(seconds=30)

_T = TypeVar("_T")


class Locations:
    """Sizes and quotas of a subscription, by location.

    Args:
        has_address: Whether instances get a public address.
    """

    def __init__(self, arm: Arm, *, has_address: bool) -> None:
        self._arm = arm
        self._has_address = has_address
        self._sizes = _Recent(self._read_sizes, _SIZES_MAX_AGE)
        self._quotas = _Recent(self._read_quotas, _QUOTAS_MAX_AGE)

    def sizes(self, location: str) -> Mapping[str, Size]:
        """Return the sizes by name; empty for an unknown location."""
        return self._sizes.get(location)

    def headroom(self, offer: Offer) -> Headroom | None:
        """Implement `Compute.headroom`."""
        location = location_of(offer.zone)
        size = self.sizes(location).get(offer.instance_type.name)
        is_spot = offer.provisioning_model is ProvisioningModel.SPOT
        cores = ("lowPriorityCores",) if is_spot else ("cores", size.family if size is not None else "")
        needs = {"virtualMachines": 1, **dict.fromkeys(cores, offer.instance_type.vcpus)}
        if self._has_address:
            needs |= dict.fromkeys(_ADDRESSES, 1)
        free = self._quotas.get(location)
        return headroom_within(needs.items(), {name: free[name.lower()] for name in needs if name.lower() in free})

    def _read_sizes(self, location: str) -> Mapping[str, Size]:
        return sizes_of(list_skus(self._arm, location), location)

    def _read_quotas(self, location: str) -> Mapping[str, int]:
        """Return the unused amount of each quota, by name in lower case."""
        usages = list_usages(self._arm, location)
        if self._has_address:
            with translate_errors("read the quotas of public addresses"):
                usages += self._arm.entries(f"/providers/Microsoft.Network/locations/{location}/usages", NETWORK)
        return {str(each["name"]["value"]).lower(): int(each["limit"]) - int(each["currentValue"]) for each in usages}


class _Recent(Generic[_T]):
    """Results of a call by location, of a maximum age."""

    def __init__(self, read: Callable[[str], _T], max_age: timedelta) -> None:
        self._read = read
        self._max_age = max_age
        self._lock = threading.Lock()
        """Not held during calls."""
        self._locks: dict[str, threading.Lock] = {}
        """Held during the call for a location."""
        self._known: dict[str, tuple[datetime, _T]] = {}

    def get(self, location: str) -> _T:
        with self._lock:
            lock = self._locks.setdefault(location, threading.Lock())
        with lock:
            known = self._known.get(location)
            if known is None or datetime.now(UTC) - known[0] > self._max_age:
                known = self._known[location] = (datetime.now(UTC), self._read(location))
            return known[1]
