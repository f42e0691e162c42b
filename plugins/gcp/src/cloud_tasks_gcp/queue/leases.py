"""Leases held by one consumer, timed by its own clock.

Pub/Sub accepts late acknowledgements without an error ("Acknowledge", Pub/Sub API reference: it may succeed, and the
message may be delivered again), so a lost lease can only be detected here.

Invariants, each with a test:

1. A lease that has expired by this clock, was settled, or was never held here is lost, without a call to Pub/Sub.
2. A lease id names one delivery to one consumer, even if Pub/Sub returns an ack id twice.
3. Memory is proportional to the held leases, not to past deliveries.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import attrs

__all__ = ["Held", "LeaseTable", "since_boot"]

_MIN_SWEEP = 1000


def since_boot() -> float:
    """Return seconds since boot; time in suspension is included where the system supports it."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@attrs.frozen
class Held:
    """Lease of one delivery."""

    lease_id: str
    ack_id: str
    ends_at: float


class LeaseTable:
    """Table of held leases. Thread-safe.

    Args:
        clock: Monotonic clock in seconds.
    """

    def __init__(self, clock: Callable[[], float] = since_boot) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._sweep_at = _MIN_SWEEP

    def __len__(self) -> int:
        return len(self._held)

    def add(self, ack_ids: Sequence[str], seconds: float) -> list[str]:
        """Add leases of new deliveries for the given duration; return their lease ids."""
        now = self._clock()
        with self._lock:
            new = [Held(f"{self._prefix}.{next(self._numbers)}", ack_id, now + seconds) for ack_id in ack_ids]
            self._held.update((held.lease_id, held) for held in new)
            if len(self._held) >= self._sweep_at:
                self._held = {key: held for key, held in self._held.items() if held.ends_at > now}
                self._sweep_at = max(_MIN_SWEEP, 2 * len(self._held))
        return [held.lease_id for held in new]

    def split(self, lease_ids: Iterable[str]) -> tuple[list[Held], list[str]]:
        """Return the held leases and the ids of lost ones. Lost leases are removed; duplicate ids count once."""
        now = self._clock()
        held: dict[str, Held] = {}
        lost: dict[str, None] = {}
        with self._lock:
            for lease_id in lease_ids:
                found = self._held.get(lease_id)
                if found is not None and found.ends_at > now:
                    held[lease_id] = found
                else:
                    self._held.pop(lease_id, None)
                    lost[lease_id] = None
        return list(held.values()), list(lost)

    def extended(self, held: Iterable[Held], seconds: float) -> None:
        """Set the end of these leases to ``seconds`` from now."""
        ends_at = self._clock() + seconds
        with self._lock:
            for each in held:
                if each.lease_id in self._held:
                    self._held[each.lease_id] = attrs.evolve(each, ends_at=ends_at)

    def forget(self, lease_ids: Iterable[str]) -> None:
        """Remove leases that were settled or have expired at Pub/Sub."""
        with self._lock:
            for lease_id in lease_ids:
                self._held.pop(lease_id, None)

    def clear(self) -> None:
        """Remove all leases, after a purge or deletion."""
        with self._lock:
            self._held.clear()
