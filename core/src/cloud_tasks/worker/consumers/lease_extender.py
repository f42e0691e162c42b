"""Extension of the leases that this worker holds.

Invariants, each with a test:

1. A lease is extended well before it expires, in batches, from the receipt of its message until that is acked,
   released or expired; never after that.
2. An expired lease is reported once.
3. A confirmed lease is held for its full duration from then on.
4. A lease that grows is never longer than its task has been held: the loss of a worker at most doubles the time of a
   task.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from cloud_tasks.worker.common.log import Log

if TYPE_CHECKING:
    from datetime import timedelta

    from cloud_tasks.plugin import Queue

__all__ = ["LeaseExtender"]


class _Held:
    """A lease that is held."""

    __slots__ = ("duration", "received_at", "since")

    def __init__(self, received_at: float, duration: float) -> None:
        self.received_at = self.since = received_at
        self.duration = duration

    @property
    def interval(self) -> float:
        """Seconds after which it is extended."""
        return self.duration / 3


class LeaseExtender:
    """Extends leases from a thread of its own.

    Args:
        lease: Duration of a lease from its receipt or extension; extended after a third of it.
        longest: Duration to which the lease of a task grows that has been held for as long; None: leases do not grow.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        queue: Queue,
        lease: timedelta,
        *,
        log: Log,
        longest: timedelta | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._lease = lease.total_seconds()
        self._longest = self._lease if longest is None else longest.total_seconds()
        self._interval = self._lease / 3
        self._log = log
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, on_lost: Callable[[Sequence[str]], None]) -> None:
        """Start the thread, which calls ``on_lost`` with expired leases."""
        self._thread = threading.Thread(target=self._serve, args=(on_lost,), name="worker-leases", daemon=True)
        self._thread.start()

    def hold(self, lease_ids: Iterable[str]) -> None:
        """Extend leases that were just received from now on."""
        now = self._clock()
        with self._lock:
            for lease_id in lease_ids:
                self._held[lease_id] = _Held(now, self._lease)

    def drop(self, lease_ids: Iterable[str]) -> None:
        """Stop extending leases."""
        with self._lock:
            for lease_id in lease_ids:
                self._held.pop(lease_id, None)

    def confirm(self, lease_ids: Sequence[str]) -> Collection[str]:
        """Extend leases now, from the calling thread; return the expired ones.

        Raises:
            Exception: As the queue raises it; the expired leases are then unknown.
        """
        return {lost for duration, some in self._groups(lease_ids) for lost in self._extend(some, duration)}

    def give_back(self) -> None:
        """Release every lease that is still held, after the failure of a thread."""
        with self._lock:
            held = list(self._held)
            self._held.clear()
        if not held:
            return
        try:
            self._queue.release(held)
        except Exception as error:
            self._log.warning(f"Tasks cannot be released and are delivered again when their leases expire: {error}")

    @property
    def count(self) -> int:
        """Number of leases that are extended."""
        return len(self._held)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def _serve(self, on_lost: Callable[[Sequence[str]], None]) -> None:
        while not self._stop.wait(self._pause()):
            self.extend_due(on_lost)

    def _pause(self) -> float:
        with self._lock:
            due_at = min((held.since + held.interval for held in self._held.values()), default=None)
        if due_at is None:
            return self._interval / 2
        return min(self._interval / 2, max(0.01, due_at - self._clock()))

    def extend_due(self, on_lost: Callable[[Sequence[str]], None]) -> None:
        """Extend the leases if one is due, together with those that are due soon, for fewer calls."""
        now = self._clock()
        with self._lock:
            due = [lease_id for lease_id, held in self._held.items() if now - held.since >= held.interval * 0.75]
            if not any(now - held.since >= held.interval for held in self._held.values()):
                return
        for duration, some in self._groups(due):
            try:
                lost = self._extend(some, duration)
            except Exception as error:
                self._log.warning(f"Leases cannot be extended, retrying: {error}")
                self._stop.wait(min(1.0, self._interval / 4))
                return
            if lost:
                on_lost(sorted(lost))

    def _groups(self, lease_ids: Sequence[str]) -> Sequence[tuple[float, list[str]]]:
        """Return the leases by their next duration."""
        now, groups = self._clock(), dict[float, list[str]]()
        with self._lock:
            for lease_id in lease_ids:
                held = self._held.get(lease_id)
                duration = self._duration(0.0 if held is None else now - held.received_at)
                groups.setdefault(duration, []).append(lease_id)
        return tuple(groups.items())

    def _extend(self, lease_ids: Sequence[str], duration: float) -> set[str]:
        """Extend leases and return the expired ones."""
        from datetime import timedelta

        now = self._clock()
        lost = set(self._queue.extend(lease_ids, lease=timedelta(seconds=duration)))
        with self._lock:
            for lease_id in lease_ids:
                if lease_id in lost:
                    self._held.pop(lease_id, None)
                elif (held := self._held.get(lease_id)) is not None:
                    held.since, held.duration = now, duration
        return lost

    def _duration(self, age: float) -> float:
        """Return the lease of a task that has been held for ``age`` seconds: doubled for as long as it is shorter."""
        duration = self._lease
        while duration * 2 <= min(age, self._longest):
            duration *= 2
        return duration
