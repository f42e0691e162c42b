"""Leases of one consumer, tracked by its own clock.

SQS accepts an expired receipt handle without an error ("DeleteMessage", Amazon SQS API Reference) and may then delete
or release a message that another consumer holds by now. Expired leases are therefore detected here.

Invariants, each with a test:

1. A lease that expired by this clock, was settled, or was received elsewhere is lost: SQS is not called.
2. No lease is extended beyond twelve hours after receipt; one warning per lease is logged before.
3. Memory grows with the leases held, not with the messages processed.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

import attrs
import structlog

__all__ = ["Held", "LeaseTable", "since_boot"]

log = structlog.get_logger()

MAX_LEASE = timedelta(hours=12).total_seconds()
"""Seconds; "Amazon SQS visibility timeout" in the developer guide."""
_WARN_BEFORE = timedelta(minutes=30).total_seconds()
_MARGIN = 30.0
"""Seconds: SQS starts the lease before its response arrives."""
_MIN_PRUNE_SIZE = 1000


def since_boot() -> float:
    """Return the seconds since boot, including suspended time where the system counts it."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@attrs.define
class Held:
    """One delivery."""

    url: str
    handle: str
    received_at: float
    ends_at: float
    object_key: str | None = None
    """S3 key of its body."""
    warned: bool = False


class LeaseTable:
    """Leases by receipt handle. Thread-safe.

    Args:
        clock: Monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = since_boot) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._prune_at = _MIN_PRUNE_SIZE

    def __len__(self) -> int:
        return len(self._held)

    def add(self, url: str, handle: str, lease: float, *, object_key: str | None = None) -> None:
        """Add a delivery received now, leased for this many seconds."""
        now = self._clock()
        with self._lock:
            self._held[handle] = Held(url, handle, now, now + lease, object_key)
            if len(self._held) >= self._prune_at:
                self._held = {key: held for key, held in self._held.items() if held.ends_at > now}
                self._prune_at = max(_MIN_PRUNE_SIZE, 2 * len(self._held))

    def split(self, handles: Iterable[str]) -> tuple[list[Held], list[str]]:
        """Return the leases still held and the lost handles, without duplicates; lost leases are removed."""
        now = self._clock()
        held: dict[str, Held] = {}
        lost: dict[str, None] = {}
        with self._lock:
            for handle in handles:
                found = self._held.get(handle)
                if found is not None and found.ends_at > now:
                    held[handle] = found
                else:
                    self._held.pop(handle, None)
                    lost[handle] = None
        return list(held.values()), list(lost)

    def forget(self, handles: Iterable[str]) -> None:
        """Remove leases that were settled or that SQS reported as expired."""
        with self._lock:
            for handle in handles:
                self._held.pop(handle, None)

    def now(self) -> float:
        """Return the time of the table's clock."""
        return self._clock()

    def extended(self, handle: str, ends_at: float) -> None:
        """Set the end of a lease, computed from the time before the call to SQS, so that it is never too late."""
        with self._lock:
            if handle in self._held:
                self._held[handle].ends_at = ends_at

    def allowed(self, held: Held, seconds: float) -> int:
        """Return the whole seconds by which a lease can be extended, at most ``seconds``; zero if not at all."""
        left = held.received_at + MAX_LEASE - _MARGIN - self._clock()
        if left - seconds < _WARN_BEFORE and not held.warned:
            held.warned = True
            log.warning(
                f"Task has been running for {(self._clock() - held.received_at) / 3600:.1f} hours; "
                f"SQS ends its lease after {MAX_LEASE / 3600:.0f} hours and delivers it again"
            )
        return max(0, math.floor(min(float(math.ceil(seconds)), left)))
