"""Leases of one consumer, timed by its own clock.

Most services accept the end of an expired lease without an error, and may then delete or release a message that another
consumer holds by now. So an expired lease is detected here, before the service is called.

Invariants, each with a test:

1. A lease that has expired by this clock, was settled, or was not added here is lost.
2. A lease id names one delivery, also where the service returns a receipt twice.
3. A message is in one pair of hands: the new lease of a key ends the former one.
4. No lease is extended beyond the total, counted from the receipt; one warning per lease is logged before.
5. Memory grows with the leases held, not with the deliveries.
"""

from __future__ import annotations

import itertools
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Generic, TypeVar

import attrs
import structlog

__all__ = ["Held", "LeaseTable", "since_boot"]

log = structlog.get_logger()

P = TypeVar("P")
_MIN_PRUNE_SIZE = 1000
_WARN_BEFORE = timedelta(minutes=30).total_seconds()


def since_boot() -> float:
    """Return the seconds since boot, including suspended time where the system counts it."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@attrs.define(kw_only=True, eq=False)
class Held(Generic[P]):
    """One lease."""

    lease_id: str
    """Id of the delivery."""
    payload: P
    """What the service needs to end or extend the lease, such as its receipt. May be replaced."""
    key: str | None
    """Id of the message; None if the table was given none."""
    received_at: float
    """Start of the lease, in seconds of the table's clock."""
    ends_at: float
    """End of the lease, in seconds of the table's clock."""
    warned: bool = False
    """Whether the approaching end of the total lease was logged."""


class LeaseTable(Generic[P]):
    """Leases by id. Thread-safe.

    Args:
        total: Maximum total lease of a delivery over all extensions; None for no limit.
        margin: Time by which a lease ends here before it ends at the service.
        total_margin: The same for the total.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        *,
        total: timedelta | None = None,
        margin: timedelta = timedelta(0),
        total_margin: timedelta = timedelta(0),
        clock: Callable[[], float] = since_boot,
    ) -> None:
        self._total = math.inf if total is None else total.total_seconds()
        self._total_margin = total_margin.total_seconds()
        self._margin = margin.total_seconds()
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[str, Held[P]] = {}
        self._latest: dict[str, str] = {}
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._prune_at = _MIN_PRUNE_SIZE

    def __len__(self) -> int:
        return len(self._held)

    def now(self) -> float:
        """Return the time of the table's clock, in seconds."""
        return self._clock()

    def add(self, payload: P, lease: timedelta, *, key: str | None = None) -> str:
        """Add a delivery received now and return its lease id.

        Args:
            key: The message, if the service identifies it: its former lease here is lost from now on.
        """
        now = self._clock()
        with self._lock:
            lease_id = f"{self._prefix}.{next(self._numbers)}"
            if key is not None:
                self._held.pop(self._latest.get(key, ""), None)
                self._latest[key] = lease_id
            ends_at = now + lease.total_seconds() - self._margin
            self._held[lease_id] = Held(lease_id=lease_id, payload=payload, key=key, received_at=now, ends_at=ends_at)
            if len(self._held) >= self._prune_at:
                for each in [each for each in self._held.values() if each.ends_at <= now]:
                    self._remove(each.lease_id)
                self._prune_at = max(_MIN_PRUNE_SIZE, 2 * len(self._held))
        return lease_id

    def split(self, lease_ids: Iterable[str]) -> tuple[list[Held[P]], list[str]]:
        """Return the leases still held, and the ids of the lost ones, which are removed. Duplicate ids count once."""
        now = self._clock()
        held: list[Held[P]] = []
        lost: list[str] = []
        with self._lock:
            for lease_id in dict.fromkeys(lease_ids):
                found = self._held.get(lease_id)
                if found is not None and found.ends_at > now:
                    held.append(found)
                else:
                    self._remove(lease_id)
                    lost.append(lease_id)
        return held, lost

    def allowed(self, held: Held[P], lease: timedelta) -> timedelta:
        """Return how far from now a lease may be extended, at most ``lease``: in whole seconds if the total limits it.

        Zero if it cannot be extended: its message will be delivered again.
        """
        now = self._clock()
        left = held.received_at + self._total - self._total_margin - now
        if left - lease.total_seconds() < _WARN_BEFORE and not held.warned:
            held.warned = True
            log.warning(
                f"Task has been running for {(now - held.received_at) / 3600:.1f} hours; the queue ends its lease "
                f"after {self._total / 3600:.0f} hours and delivers it again"
            )
        return lease if lease.total_seconds() <= left else timedelta(seconds=max(0, math.floor(left)))

    def extended(self, held: Held[P], lease: timedelta, *, since: float) -> None:
        """Set the end of a lease.

        Args:
            since: Time of the table's clock before the call to the service, so that the end is never too late.
        """
        held.ends_at = since + lease.total_seconds() - self._margin

    def forget(self, lease_ids: Iterable[str]) -> None:
        """Remove leases that were settled, or are lost at the service."""
        with self._lock:
            for lease_id in lease_ids:
                self._remove(lease_id)

    def clear(self) -> None:
        """Remove all leases, after the queue was purged or deleted."""
        with self._lock:
            self._held.clear()
            self._latest.clear()

    def _remove(self, lease_id: str) -> None:
        held = self._held.pop(lease_id, None)
        if held is not None and held.key is not None:
            del self._latest[held.key]
