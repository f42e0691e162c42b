"""The leases that one consumer holds, by its own clock.

SQS accepts an old receipt handle without a word ("DeleteMessage", Amazon SQS API Reference): it may then delete, or
give back, what another consumer holds by now. So a lost lease has to be known here.

Invariants, each with a test:

1. A lease that has ended by this clock, was settled, or was never held here is lost: SQS is not asked.
2. No lease is extended past twelve hours after its receipt; a warning comes before, once for each.
3. Memory follows what is held, not what passed through.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

import attrs

__all__ = ["Held", "LeaseBook", "since_boot"]

# The worker configures no structlog; what this logger says reaches its error output all the same.
log = logging.getLogger("cloud_tasks_aws.queue")

LONGEST = timedelta(hours=12).total_seconds()
"""Seconds; "Amazon SQS visibility timeout" in the developer guide."""
_WARN_BEFORE = timedelta(minutes=30).total_seconds()
_MARGIN = 30.0
"""SQS began to count before its answer was here."""
_FEW = 1000


def since_boot() -> float:
    """Seconds, also those in which this machine was suspended where the system counts them."""
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
    """Where its body is at S3."""
    warned: bool = False


class LeaseBook:
    """Thread-safe.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = since_boot) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._sweep_at = _FEW

    def __len__(self) -> int:
        return len(self._held)

    def add(self, url: str, handle: str, lease: float, *, object_key: str | None = None) -> None:
        """A delivery that came just now, leased for so many seconds."""
        now = self._clock()
        with self._lock:
            self._held[handle] = Held(url, handle, now, now + lease, object_key)
            if len(self._held) >= self._sweep_at:
                self._held = {key: held for key, held in self._held.items() if held.ends_at > now}
                self._sweep_at = max(_FEW, 2 * len(self._held))

    def split(self, handles: Iterable[str]) -> tuple[list[Held], list[str]]:
        """Those that are held still, and the lost ones, which are forgotten; one that is named twice counts once."""
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
        """These were settled, or SQS said that they have ended."""
        with self._lock:
            for handle in handles:
                self._held.pop(handle, None)

    def now(self) -> float:
        """By this book's clock."""
        return self._clock()

    def extended(self, handle: str, ends_at: float) -> None:
        """The lease now ends then; counted from before SQS was asked, so that it never seems longer than it is."""
        with self._lock:
            if handle in self._held:
                self._held[handle].ends_at = ends_at

    def allowed(self, held: Held, seconds: float) -> int:
        """For how many whole seconds a lease can be extended, at most those asked for; zero: not at all."""
        left = held.received_at + LONGEST - _MARGIN - self._clock()
        if left - seconds < _WARN_BEFORE and not held.warned:
            held.warned = True
            log.warning(
                "A task has been running for %.1f hours; SQS ends its lease after %.0f, and then gives it to others",
                (self._clock() - held.received_at) / 3600,
                LONGEST / 3600,
            )
        return max(0, math.floor(min(float(math.ceil(seconds)), left)))
