"""Extension of the leases that this worker holds.

Invariants, each with a test:

1. A lease is extended well before it expires, in batches, from the receipt of its message until that is acked,
   released or expired; never after that.
2. An expired lease is reported once.
3. A confirmed lease is held for its full duration from then on.
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


class LeaseExtender:
    """Extends leases from a thread of its own.

    Args:
        lease: Duration of a lease from its receipt or extension; extended after a third of it.
    """

    def __init__(self, queue: Queue, lease: timedelta, *, log: Log) -> None:
        self._queue = queue
        self._lease = lease
        self._interval = lease.total_seconds() / 3
        self._log = log
        self._held: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, on_lost: Callable[[Sequence[str]], None]) -> None:
        """Start the thread, which calls ``on_lost`` with expired leases."""
        self._thread = threading.Thread(target=self._serve, args=(on_lost,), name="worker-leases", daemon=True)
        self._thread.start()

    def hold(self, lease_ids: Iterable[str]) -> None:
        """Extend leases that were just received from now on."""
        now = time.monotonic()
        with self._lock:
            for lease_id in lease_ids:
                self._held[lease_id] = now

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
        now = time.monotonic()
        lost = set(self._queue.extend(lease_ids, lease=self._lease))
        self._note_extended(lease_ids, lost, now)
        return lost

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
            self._extend(on_lost)

    def _pause(self) -> float:
        with self._lock:
            oldest = min(self._held.values(), default=None)
        if oldest is None:
            return self._interval / 2
        return min(self._interval / 2, max(0.01, oldest + self._interval - time.monotonic()))

    def _extend(self, on_lost: Callable[[Sequence[str]], None]) -> None:
        now = time.monotonic()
        # Includes leases that are due soon, for fewer calls.
        with self._lock:
            due = [lease_id for lease_id, since in self._held.items() if now - since >= self._interval * 0.75]
        if not due:
            return
        try:
            lost = set(self._queue.extend(due, lease=self._lease))
        except Exception as error:
            self._log.warning(f"Leases cannot be extended, retrying: {error}")
            self._stop.wait(min(1.0, self._interval / 4))
            return
        self._note_extended(due, lost, now)
        if lost:
            on_lost(sorted(lost))

    def _note_extended(self, lease_ids: Iterable[str], lost: Collection[str], now: float) -> None:
        with self._lock:
            for lease_id in lease_ids:
                if lease_id in lost:
                    self._held.pop(lease_id, None)
                elif lease_id in self._held:
                    self._held[lease_id] = now
