"""Collects events from the event queue into the store.

Invariants, each with a test:

1. An event is acked only after the transaction that applied it was committed.
2. A broken message is set aside, counted and acked: it never blocks the rest, and never comes back.
3. An outage of the event queue is waited out; while it lasts nobody is said to be silent (`Collector.listening_since`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from cloud_tasks.controller.loop import Loop
from cloud_tasks.convert import MalformedMessage, decode_events
from cloud_tasks.model import Event
from cloud_tasks.plugin import Delivery, Queue
from cloud_tasks.store import Store

__all__ = ["Collector"]

log = structlog.get_logger()

_BATCH = 500
"""Messages per receive; each carries a batch of events."""
_WAIT = timedelta(seconds=1)
_FIRST_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(seconds=30)
_GAP = timedelta(seconds=60)
"""A longer time between two answers means that we were asleep, not the workers."""


class Collector:
    """Receives, applies, acks, for as long as it is not stopped.

    Args:
        on_events: Told of each batch after it was committed (sinks, progress).
    """

    def __init__(
        self, loop: Loop, store: Store, queue: Queue, *, on_events: Callable[[Sequence[Event]], None] = lambda _: None
    ) -> None:
        self._loop = loop
        self._store = store
        self._queue = queue
        self._on_events = on_events
        self._pause = _FIRST_PAUSE
        self._stopping = False
        self._last_answer: datetime | None = None
        self.stopped = False
        """Whether nothing is under way any more."""
        self._reading_since: datetime | None = None
        self._behind = False

    @property
    def listening_since(self) -> datetime | None:
        """Since when the queue has been read without a gap; None while it cannot be read, or while we are behind."""
        asleep = self._last_answer is None or self._loop.now() - self._last_answer > _GAP
        return None if self._behind or asleep else self._reading_since

    def start(self) -> None:
        self._receive(())

    def stop(self) -> None:
        """Take what is there, then no more."""
        self._stopping = True

    def _receive(self, acks: Sequence[str]) -> None:
        # What was sent before `stop` is found only by a look that began after it.
        last_look = self._stopping
        wait = timedelta(0) if last_look else _WAIT

        def work() -> Sequence[Delivery]:
            if acks:
                self._queue.ack(acks)
            return self._queue.receive(_BATCH, wait=wait)

        self._loop.call(work, lambda found: self._received(found, last_look), lambda error: self._failed(error, acks))

    def _received(self, deliveries: Sequence[Delivery], last_look: bool) -> None:
        now = self._loop.now()
        if self._reading_since is None or self._last_answer is None or now - self._last_answer > _GAP:
            self._reading_since = now
        self._behind = len(deliveries) >= _BATCH
        self._last_answer = now
        self._pause = _FIRST_PAUSE
        if not deliveries and last_look:
            self.stopped = True
            return
        self._receive(self._apply(deliveries))

    def _apply(self, deliveries: Sequence[Delivery]) -> list[str]:
        """Commit what the messages carry; returns the leases that may now be acked: all of them."""
        events: list[Event] = []
        for delivery in deliveries:
            try:
                good, broken = decode_events(delivery.body)
            except MalformedMessage as error:
                good, broken = (), (str(error),)
            events.extend(good)
            for reason in broken:
                self._store.set_aside(delivery.body, reason, self._loop.now())
                log.warning(f"An event was set aside: {reason}")
        if events:
            self._store.apply_events(events)
            self._on_events(events)
        return [delivery.lease_id for delivery in deliveries]

    def _failed(self, error: Exception, acks: Sequence[str]) -> None:
        self._reading_since = None
        if self._stopping:
            log.warning(f"The last events could not be read: {error}")
            self.stopped = True
            return
        log.warning(f"The event queue cannot be read ({error}); trying again in {self._pause.total_seconds():.0f} s")
        self._loop.later(self._pause, lambda: self._receive(acks))
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
