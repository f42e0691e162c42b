"""Event collector: applies the events of the event queue to the store.

Invariants, each with a test:

1. An event is acked only after the transaction that applied it was committed.
2. A message or event that cannot be used is dead-lettered, counted and acked, whatever is wrong with it: it never
   stops the controller nor blocks the others, and is not delivered again. Only a failure of the database stops it.
3. Time in which the event queue was not read does not count as time without heartbeat
   (`EventCollector.events_read_since`).
4. An event queue that refuses the controller permanently is reported after a time: instances must not run unobserved.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from cloud_tasks.controller.deferred_writes import DeferredWrites
from cloud_tasks.controller.event_loop import Loop
from cloud_tasks.convert import MalformedMessageError, decode_events, encode_events
from cloud_tasks.errors import NotFoundError, ProviderError, StoreError
from cloud_tasks.model import Event
from cloud_tasks.plugin import Delivery, Queue
from cloud_tasks.quantities import format_span
from cloud_tasks.queue_refusal import QueueRefusal
from cloud_tasks.store import Store

__all__ = ["EventCollector"]

log = structlog.get_logger()

_BATCH = 500
"""Messages per receive call; each contains a batch of events."""
_WAIT = timedelta(seconds=1)
_MIN_BACKOFF = timedelta(seconds=1)
_MAX_BACKOFF = timedelta(seconds=30)
_GAP = timedelta(seconds=60)
"""Maximum time between two answers of the queue without a gap. A longer time is an outage, or this machine was asleep;
a shorter one is normal where single calls fail."""


class _Message:
    """A decoded delivery: its events, and the reasons why parts of it cannot be used.

    Args:
        received: Time of receipt, UTC.
        run_id: The run whose events are expected.
    """

    __slots__ = ("body", "events", "lease_id", "malformed")

    def __init__(self, delivery: Delivery, received: datetime, run_id: str) -> None:
        self.lease_id = delivery.lease_id
        self.body = delivery.body
        self.events: Sequence[Event] = ()
        self.malformed: Sequence[str] = ()
        try:
            self.events, self.malformed = decode_events(delivery.body, received=received, run_id=run_id)
        except MalformedMessageError as error:
            self.malformed = (str(error),)
        except Exception as error:
            self.malformed = (f"cannot be decoded: {type(error).__name__}",)


class EventCollector:
    """Receives, applies and acks events until it is stopped.

    The next messages are received and decoded in another thread while the current ones are applied.

    Args:
        on_events: Called with each batch after it was committed.
        wait: Maximum time for which a receive call waits for the first message.
        writes: Changes to the store; own ones by default. While the store is unavailable, no more messages are
            received.
    """

    def __init__(
        self,
        loop: Loop,
        store: Store,
        queue: Queue,
        *,
        on_events: Callable[[Sequence[Event]], None] = lambda _: None,
        wait: timedelta = _WAIT,
        writes: DeferredWrites | None = None,
    ) -> None:
        self._loop = loop
        self._store = store
        self._run_id = store.job.run_id
        self._writes = writes or DeferredWrites(loop, store)
        self.on_gone: Callable[[], None] = lambda: None
        """Called when the queue does not exist, before the next attempt to read it."""
        self.on_refused: Callable[[str], None] = lambda reason: None
        """Called with the reason when the queue has refused this controller for too long; again after each attempt."""
        self.refusal = QueueRefusal("event queue", user="the controller", clock=lambda: loop.now().timestamp())
        self._queue = queue
        self._on_events = on_events
        self._wait = wait
        self._backoff = _MIN_BACKOFF
        self._stopping = False
        self._on_stopped: Callable[[], None] = lambda: None
        self._reading = False
        self._acking = 0
        self._unacked: list[str] = []
        self._ack_refusal = ""
        """Permanent error of the last acks, which was logged; empty if they succeeded."""
        self._last_answer: datetime | None = None
        self.stopped = False
        """Whether no call is open any more."""
        self._reading_since: datetime | None = None
        self._behind = False

    @property
    def events_read_since(self) -> datetime | None:
        """Time since which the queue has been read without a gap.

        None while it cannot be read, holds a backlog, or its events cannot be applied.
        """
        has_gap = self._last_answer is None or self._loop.now() - self._last_answer > _GAP
        return None if self._behind or has_gap or self._writes.blocked else self._reading_since

    @property
    def last_answer(self) -> datetime | None:
        """Time at which the queue last answered."""
        return self._last_answer

    def start(self) -> None:
        """Start receiving."""
        self._reading = True
        self._receive()

    def stop(self, then: Callable[[], None] = lambda: None) -> None:
        """Collect the remaining messages, then stop; ``then`` is called when no call is open any more."""
        self._stopping = True
        self._on_stopped = then

    def _receive(self) -> None:
        self._writes.submit(lambda: None, lambda _: self._receive_now())

    def _receive_now(self) -> None:
        # Only a receive call that starts after `stop` finds everything that was sent before it.
        is_last = self._stopping
        wait = timedelta(0) if is_last else self._wait
        now = self._loop.now()

        def work() -> Sequence[_Message]:
            return [_Message(each, now, self._run_id) for each in self._queue.receive(_BATCH, wait=wait)]

        self._loop.call(work, lambda found: self._received(found, is_last), self._failed)

    def _received(self, messages: Sequence[_Message], is_last: bool) -> None:
        now = self._loop.now()
        if self._reading_since is None or self._last_answer is None or now - self._last_answer > _GAP:
            self._reading_since = now
        self._behind = len(messages) >= _BATCH
        self._last_answer = now
        self.refusal.answered()
        self._backoff = _MIN_BACKOFF
        if messages or not is_last:
            self._receive()
        else:
            self._reading = False
        # An obstacle of the store (`StoreUnavailableError`) passes through `_apply`, which is then repeated as a whole.
        self._writes.submit(lambda: self._apply(messages), self._applied)

    def _applied(self, lease_ids: list[str]) -> None:
        self._ack(lease_ids)
        self._finish_if_idle()

    def _apply(self, messages: Sequence[_Message]) -> list[str]:
        """Commit the events of the messages; return the leases, which may then be acked."""
        events: Sequence[Event] = [event for message in messages for event in message.events]
        broken = [(message.body, reason) for message in messages for reason in message.malformed]
        if events:
            events = self._commit(events, broken)
        if broken:
            self._store.dead_letter(broken, self._loop.now())
            others = f" (and {len(broken) - 1:,} more)" if len(broken) > 1 else ""
            log.warning(f"Malformed event message dead-lettered: {broken[0][1]}{others}")
        if events:
            self._on_events(events)
        return [message.lease_id for message in messages]

    def _commit(self, events: Sequence[Event], broken: list[tuple[bytes, str]]) -> Sequence[Event]:
        """Commit events, in halves if they cannot be applied together; return those that were committed.

        Args:
            broken: Receives the events that cannot be applied alone, with the reason.
        """
        try:
            applied = self._store.apply_events(events)
        except Exception as error:
            if _is_failure_of_the_database(error):
                raise
            if len(events) > 1:
                middle = len(events) // 2
                return [*self._commit(events[:middle], broken), *self._commit(events[middle:], broken)]
            broken.append((_encoded(events), f"cannot be stored: {type(error).__name__}"))
            return ()
        if applied.duplicate:
            log.debug(f"Duplicate events ignored: {applied.duplicate}")
        return events

    def _ack(self, lease_ids: list[str]) -> None:
        acks = self._unacked + lease_ids
        if not acks:
            return
        self._unacked = []
        self._acking += 1

        def over() -> None:
            self._acking -= 1
            self._finish_if_idle()

        def acked(_: object) -> None:
            self._ack_refusal = ""
            over()

        def failed(error: Exception) -> None:
            # Repeated with the next answer of the queue; a second delivery changes nothing.
            log.debug(f"Event messages ({len(acks)}) could not be acked, retrying: {error}")
            if isinstance(error, ProviderError) and not error.transient and str(error) != self._ack_refusal:
                self._ack_refusal = str(error)
                log.warning(f"The event queue does not let the controller remove messages; they come again: {error}")
            self._unacked += acks
            over()

        self._loop.call(lambda: self._queue.ack(acks), acked, failed)

    def _finish_if_idle(self) -> None:
        if not self._reading and not self._acking and not self.stopped:
            self.stopped = True
            self._on_stopped()

    def _failed(self, error: Exception) -> None:
        if self._stopping:
            log.warning(f"The last events could not be received: {error}")
            self._reading = False
            self._finish_if_idle()
            return
        if isinstance(error, NotFoundError):
            self.on_gone()
        elif reason := self.refusal.failed(error):
            self.on_refused(reason)
        log.warning(f"The event queue could not be read; next attempt in {format_span(self._backoff)}: {error}")
        self._loop.later(self._backoff, self._receive)
        self._backoff = min(self._backoff * 2, _MAX_BACKOFF)


_FAULTS_OF_VALUES = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)


def _is_failure_of_the_database(error: Exception) -> bool:
    """Return whether an error is none of the events: the same events can be applied once its cause is gone."""
    if isinstance(error, (StoreError, OSError, MemoryError)):
        return True
    return isinstance(error, sqlite3.Error) and not isinstance(error, _FAULTS_OF_VALUES)


def _encoded(events: Sequence[Event]) -> bytes:
    try:
        return encode_events(events)
    except Exception:
        return b""
