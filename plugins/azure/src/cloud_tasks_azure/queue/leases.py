"""The leases that one consumer holds.

Storage Queue names a lease by a pop receipt, which is another one after each renewal ("Update Message" in the reference
of the Queue service); ours keeps its name.

Invariants, each with a test:

1. A lease's name never changes, and names one delivery: that of the next delivery is another.
2. One call at a time uses a lease's receipt: what a renewal changes is not used by an acknowledgement beside it.
3. Memory follows what is held, not what passed through.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import attrs

__all__ = ["Held", "LeaseBook"]


@attrs.define
class Held:
    """One delivery."""

    lease_id: str
    queue: str
    """The queue's name at Azure."""
    message_id: str
    receipt: str = attrs.field(repr=False)
    blob: str | None = None
    """Where its body is, if not in the message."""
    lock: threading.Lock = attrs.field(factory=threading.Lock, repr=False)
    """Held while the receipt is used."""


class LeaseBook:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._latest: dict[tuple[str, str], str] = {}

    def __len__(self) -> int:
        return len(self._held)

    def add(self, queue: str, message_id: str, receipt: str, *, blob: str | None = None) -> str:
        """A delivery that came just now; returns the name of its lease."""
        # A receipt is random, and is given once: with the message it names one delivery.
        lease_id = f"{message_id}/{receipt}"
        with self._lock:
            # A message comes again only when its lease is over: the former one is of no use to anybody.
            former = self._latest.get((queue, message_id))
            if former is not None:
                self._held.pop(former, None)
            self._held[lease_id] = Held(lease_id, queue, message_id, receipt, blob)
            self._latest[queue, message_id] = lease_id
        return lease_id

    def split(self, lease_ids: Iterable[str]) -> tuple[list[Held], list[str]]:
        """Those that are held, and the lost ones; one that is named twice counts once."""
        with self._lock:
            chosen = dict.fromkeys(lease_ids)
            held = [self._held[each] for each in chosen if each in self._held]
            return held, [each for each in chosen if each not in self._held]

    def forget(self, lease_ids: Iterable[str]) -> None:
        """These were settled or are lost."""
        with self._lock:
            for lease_id in lease_ids:
                held = self._held.pop(lease_id, None)
                if held is not None and self._latest.get((held.queue, held.message_id)) == lease_id:
                    del self._latest[held.queue, held.message_id]
