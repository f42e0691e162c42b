"""What has to be done about one thing that happened in a worker."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Report"]


class Report:
    """What has to be done about one thing that happened."""

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
        """Whether the lease is given back rather than acked."""
        self.next_body = next_body
        """The message of the next attempt."""
        self.delay = delay
        """Seconds before that."""
        self.sinks_done = 0
        """How many of the main sinks, the first ones, have its events."""
        self.size = sum(map(len, events)) + (len(next_body) if next_body else 0)
