"""The leases that one consumer holds, by its own clock.

Pub/Sub takes an acknowledgement that comes too late without a word ("Acknowledge", Pub/Sub API reference: it may
succeed, and the message may be delivered again all the same), so that a lost lease can only be known here.

Invariants, each with a test:

1. A lease that has ended by this clock, was settled, or was never held here is lost: Pub/Sub is not asked.
2. A lease id names one delivery to one consumer, for ever, also when Pub/Sub gives an ack id a second time.
3. Memory follows what is held, not what passed through.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import attrs

__all__ = ["Held", "LeaseBook", "since_boot"]

_FEW = 1000


def since_boot() -> float:
    """Seconds, also those in which this machine was suspended where the system counts them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@attrs.frozen
class Held:
    """One delivery."""

    lease_id: str
    ack_id: str
    ends_at: float


class LeaseBook:
    """Thread-safe.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = since_boot) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._sweep_at = _FEW

    def __len__(self) -> int:
        return len(self._held)

    def add(self, ack_ids: Sequence[str], seconds: float) -> list[str]:
        """Deliveries that came just now, leased for so many seconds; returns their lease ids."""
        now = self._clock()
        with self._lock:
            new = [Held(f"{self._prefix}.{next(self._numbers)}", ack_id, now + seconds) for ack_id in ack_ids]
            self._held.update((held.lease_id, held) for held in new)
            if len(self._held) >= self._sweep_at:
                self._held = {key: held for key, held in self._held.items() if held.ends_at > now}
                self._sweep_at = max(_FEW, 2 * len(self._held))
        return [held.lease_id for held in new]

    def split(self, lease_ids: Iterable[str]) -> tuple[list[Held], list[str]]:
        """Those that are held still, and the lost ones, which are forgotten; one that is named twice counts once."""
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
        """These leases now end so many seconds from now."""
        ends_at = self._clock() + seconds
        with self._lock:
            for each in held:
                if each.lease_id in self._held:
                    self._held[each.lease_id] = attrs.evolve(each, ends_at=ends_at)

    def forget(self, lease_ids: Iterable[str]) -> None:
        """These were settled, or Pub/Sub said that they have ended."""
        with self._lock:
            for lease_id in lease_ids:
                self._held.pop(lease_id, None)

    def clear(self) -> None:
        """All leases have ended: the messages are gone."""
        with self._lock:
            self._held.clear()
