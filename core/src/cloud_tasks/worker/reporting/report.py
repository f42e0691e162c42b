"""Reports: the events of one occurrence in a worker, with the message and the ack that follow them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Report"]


class Report:
    """Events of one occurrence; optionally the message of the next attempt and the end of a lease."""

    __slots__ = ("delay", "events", "lease_id", "next_body", "release", "sinks_done", "size")

    def __init__(
        self,
        events: Sequence[bytes],
        *,
        lease_id: str | None = None,
        release: bool = False,
        next_body: bytes | None = None,
        delay: float = 0.0,
    ) -> None:
        self.events = events
        self.lease_id = lease_id
        self.release = release
        """Whether the lease is released rather than acked."""
        self.next_body = next_body
        """Message of the next attempt; None for none."""
        self.delay = delay
        """Delay of that message, or of the released one, in seconds."""
        self.sinks_done = 0
        """Number of durable sinks, in order, that have its events."""
        self.size = sum(map(len, events)) + (len(next_body) if next_body else 0)
