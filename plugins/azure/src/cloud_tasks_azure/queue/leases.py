"""Leases of one consumer.

Storage Queue identifies a lease by a pop receipt, which changes with each renewal ("Update Message" in the reference of
the Queue service); the lease id given to the caller stays the same.

Invariants, each with a test:

1. A lease id never changes, and identifies one delivery: the next delivery of the message has another.
2. A receipt is used by one call at a time: an acknowledgement never uses a receipt that a renewal is replacing.
3. Memory grows with the leases held, not with the messages processed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import attrs

__all__ = ["Held", "LeaseTable"]


@attrs.define
class Held:
    """One delivery."""

    lease_id: str
    queue: str
    """The queue's name in Azure."""
    message_id: str
    receipt: str = attrs.field(repr=False)
    blob: str | None = None
    """Blob of its body, if not in the message."""
    lock: threading.Lock = attrs.field(factory=threading.Lock, repr=False)
    """Held while the receipt is in use."""


class LeaseTable:
    """Leases by lease id. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._latest: dict[tuple[str, str], str] = {}

    def __len__(self) -> int:
        return len(self._held)

    def add(self, queue: str, message_id: str, receipt: str, *, blob: str | None = None) -> str:
        """Add a delivery received now and return its lease id."""
        # A receipt is random and unique: together with the message id it identifies one delivery.
        lease_id = f"{message_id}/{receipt}"
        with self._lock:
            # A redelivered message means that its earlier lease expired.
            former = self._latest.get((queue, message_id))
            if former is not None:
                self._held.pop(former, None)
            self._held[lease_id] = Held(lease_id, queue, message_id, receipt, blob)
            self._latest[queue, message_id] = lease_id
        return lease_id

    def split(self, lease_ids: Iterable[str]) -> tuple[list[Held], list[str]]:
        """Return the leases held and the lost lease ids, without duplicates."""
        with self._lock:
            chosen = dict.fromkeys(lease_ids)
            held = [self._held[each] for each in chosen if each in self._held]
            return held, [each for each in chosen if each not in self._held]

    def forget(self, lease_ids: Iterable[str]) -> None:
        """Remove leases that were settled or lost."""
        with self._lock:
            for lease_id in lease_ids:
                held = self._held.pop(lease_id, None)
                if held is not None and self._latest.get((held.queue, held.message_id)) == lease_id:
                    del self._latest[held.queue, held.message_id]
