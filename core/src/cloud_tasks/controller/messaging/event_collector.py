"""Collects events from the event queue into the store.

Invariants, each with a test:

1. An event is acked only after the transaction that applied it was committed.
2. A broken message is set aside, counted and acked: it never blocks the rest, and never comes back.
3. While the event queue cannot be reached, no instance counts as silent (`EventCollector.events_read_since`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from cloud_tasks.controller.event_loop import Loop
from cloud_tasks.convert import MalformedMessageError, decode_events
from cloud_tasks.model import Event
from cloud_tasks.plugin import Delivery, Queue
from cloud_tasks.store import Store

__all__ = ["EventCollector"]

log = structlog.get_logger()

_BATCH = 500
"""Messages per receive; each carries a batch of events."""
_WAIT = timedelta(seconds=1)
_FIRST_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(seconds=30)
_GAP = timedelta(seconds=60)
"""After a longer time between two answers the silence was ours, not the workers': an outage, or we were asleep. A
shorter one says nothing, and where single calls fail all the time nobody would ever be listened to."""


class _Message:
    """One delivery, read: what is good in it, and what is wrong with the rest."""

    __slots__ = ("body", "broken", "events", "lease_id")

    def __init__(self, delivery: Delivery) -> None:
        self.lease_id = delivery.lease_id
        self.body = delivery.body
        self.events: Sequence[Event] = ()
        self.broken: Sequence[str] = ()
        try:
            self.events, self.broken = decode_events(delivery.body)
        except MalformedMessageError as error:
            self.broken = (str(error),)


class EventCollector:
    """Receives, applies, acks, for as long as it is not stopped.

    The next messages are received and read, in another thread, while these are applied.

    Args:
        on_events: Told of each batch after it was committed (sinks, progress).
        wait: How long a receive may wait for the first message.
    """

    def __init__(
        self,
        loop: Loop,
        store: Store,
        queue: Queue,
        *,
        on_events: Callable[[Sequence[Event]], None] = lambda _: None,
        wait: timedelta = _WAIT,
    ) -> None:
        self._loop = loop
        self._store = store
        self._queue = queue
        self._on_events = on_events
        self._wait = wait
        self._pause = _FIRST_PAUSE
        self._stopping = False
        self._on_stopped: Callable[[], None] = lambda: None
        self._reading = False
        self._acking = 0
        self._owed: list[str] = []
        self._last_answer: datetime | None = None
        self.stopped = False
        """Whether nothing is under way any more."""
        self._reading_since: datetime | None = None
        self._behind = False

    @property
    def events_read_since(self) -> datetime | None:
        """Since when the queue has been read without a gap; None while it cannot be read, or while we are behind."""
        asleep = self._last_answer is None or self._loop.now() - self._last_answer > _GAP
        return None if self._behind or asleep else self._reading_since

    def start(self) -> None:
        self._reading = True
        self._receive()

    def stop(self, then: Callable[[], None] = lambda: None) -> None:
        """Take what is there, then no more; ``then`` is called when nothing is under way any more."""
        self._stopping = True
        self._on_stopped = then

    def _receive(self) -> None:
        # What was sent before `stop` is found only by a look that began after it.
        last_look = self._stopping
        wait = timedelta(0) if last_look else self._wait

        def work() -> Sequence[_Message]:
            return [_Message(delivery) for delivery in self._queue.receive(_BATCH, wait=wait)]

        self._loop.call(work, lambda found: self._received(found, last_look), self._failed)

    def _received(self, messages: Sequence[_Message], last_look: bool) -> None:
        now = self._loop.now()
        if self._reading_since is None or self._last_answer is None or now - self._last_answer > _GAP:
            self._reading_since = now
        self._behind = len(messages) >= _BATCH
        self._last_answer = now
        self._pause = _FIRST_PAUSE
        if messages or not last_look:
            self._receive()
        else:
            self._reading = False
        self._ack(self._apply(messages))
        self._end_if_over()

    def _apply(self, messages: Sequence[_Message]) -> list[str]:
        """Commit what the messages carry; returns the leases that may now be acked: all of them."""
        events: list[Event] = []
        for message in messages:
            events.extend(message.events)
            for reason in message.broken:
                self._store.set_aside(message.body, reason, self._loop.now())
                log.warning(f"An event was set aside: {reason}")
        if events:
            self._store.apply_events(events)
            self._on_events(events)
        return [message.lease_id for message in messages]

    def _ack(self, lease_ids: list[str]) -> None:
        acks = self._owed + lease_ids
        if not acks:
            return
        self._owed = []
        self._acking += 1

        def over(_: object = None) -> None:
            self._acking -= 1
            self._end_if_over()

        def failed(error: Exception) -> None:
            # Tried again with the next answer of the queue; what comes a second time changes nothing.
            log.debug(f"{len(acks)} event messages could not be acked: {error}")
            self._owed += acks
            over()

        self._loop.call(lambda: self._queue.ack(acks), over, failed)

    def _end_if_over(self) -> None:
        if not self._reading and not self._acking and not self.stopped:
            self.stopped = True
            self._on_stopped()

    def _failed(self, error: Exception) -> None:
        if self._stopping:
            log.warning(f"The last events could not be read: {error}")
            self._reading = False
            self._end_if_over()
            return
        log.warning(f"The event queue cannot be read ({error}); trying again in {self._pause.total_seconds():.0f} s")
        self._loop.later(self._pause, self._receive)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
