"""The leases that this worker holds, kept alive for as long as they are needed.

Invariants, each with a test:

1. A lease is extended well before it ends, in batches, from the moment its message is received until it is acked,
   released or lost; never after.
2. A lost lease is noticed, once.
3. A confirmed lease is held for its whole length from that moment on.
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
        lease: How long a lease lasts from its receipt or extension; extended after a third of that.
        on_lost: Told of leases that had ended, from the thread.
    """

    def __init__(self, queue: Queue, lease: timedelta, *, on_lost: Callable[[Sequence[str]], None], log: Log) -> None:
        self._queue = queue
        self._lease = lease
        self._every = lease.total_seconds() / 3
        self._on_lost = on_lost
        self._log = log
        self._held: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="worker-leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def hold(self, lease_ids: Iterable[str]) -> None:
        """Keep these, received just now."""
        now = time.monotonic()
        with self._lock:
            for lease_id in lease_ids:
                self._held[lease_id] = now

    def drop(self, lease_ids: Iterable[str]) -> None:
        """These are needed no more."""
        with self._lock:
            for lease_id in lease_ids:
                self._held.pop(lease_id, None)

    def confirm(self, lease_ids: Sequence[str]) -> Collection[str]:
        """Extend leases now, from the calling thread; return the lost ones.

        Raises whatever the queue raises: it is then unknown which are lost.
        """
        now = time.monotonic()
        lost = set(self._queue.extend(lease_ids, lease=self._lease))
        self._note_extended(lease_ids, lost, now)
        return lost

    @property
    def count(self) -> int:
        return len(self._held)

    def close(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(5.0)

    def _serve(self) -> None:
        while not self._stop.wait(self._pause()):
            self._extend()

    def _pause(self) -> float:
        with self._lock:
            oldest = min(self._held.values(), default=None)
        if oldest is None:
            return self._every / 2
        return min(self._every / 2, max(0.01, oldest + self._every - time.monotonic()))

    def _extend(self) -> None:
        now = time.monotonic()
        # Those that come due soon go along: fewer calls.
        with self._lock:
            due = [lease_id for lease_id, since in self._held.items() if now - since >= self._every * 0.75]
        if not due:
            return
        try:
            lost = set(self._queue.extend(due, lease=self._lease))
        except Exception as error:
            self._log.warning(f"Leases could not be extended: {error}; trying again")
            self._stop.wait(min(1.0, self._every / 4))
            return
        self._note_extended(due, lost, now)
        if lost:
            self._on_lost(sorted(lost))

    def _note_extended(self, lease_ids: Iterable[str], lost: Collection[str], now: float) -> None:
        with self._lock:
            for lease_id in lease_ids:
                if lease_id in lost:
                    self._held.pop(lease_id, None)
                elif lease_id in self._held:
                    self._held[lease_id] = now
