"""Sink dispatcher: sends events to the configured event sinks, and progress to those that take it.

Invariants, each with a test:

1. A failing sink never stops a run. Its batch is sent up to `_MAX_ATTEMPTS` times, at last event by event: an event
   that the sink refuses stops no other. What is left is dropped, counted, and reported at the end. The database has
   every event.
2. The queue of a slow sink is bounded: events beyond `_MAX_WAITING_EVENTS` are dropped and counted.
3. A failing sink delays the end of a run by the timeout of `finish` at most.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Container, Mapping, Sequence
from datetime import timedelta

import structlog

from cloud_tasks.controller.event_loop import Loop
from cloud_tasks.model import Event, JobPhase, JobProgress
from cloud_tasks.plugin import EventSink, ProgressSink

__all__ = ["SinkDispatcher"]

log = structlog.get_logger()

_MAX_ATTEMPTS = 5
_BACKOFF = timedelta(seconds=1)
_SAMPLE = 3
"""Events that fail one by one before the sink itself is taken to fail."""
_MAX_WAITING_EVENTS = 100_000
"""A few hundred megabytes with long results."""


class SinkDispatcher:
    """Event sinks with a queue each, so that a slow or failing sink does not delay the others."""

    def __init__(self, loop: Loop, sinks: Mapping[str, EventSink]) -> None:
        self._loop = loop
        self._queues = [_SinkQueue(loop, name, sink) for name, sink in sinks.items()]

    def write(self, events: Sequence[Event], *, only: Container[str] | None = None) -> None:
        """Send a batch to every sink, or only to the sinks of these names."""
        for queue in self._queues:
            if only is None or queue.name in only:
                queue.write(events)

    @property
    def takes_progress(self) -> bool:
        """Whether any sink takes progress."""
        return any(queue.takes_progress for queue in self._queues)

    def send_progress(self, progress: JobProgress) -> None:
        """Send progress to every sink that takes it."""
        for queue in self._queues:
            queue.send_progress(progress)

    @property
    def idle(self) -> bool:
        """Whether every batch was written or dropped."""
        return all(queue.idle for queue in self._queues)

    def finish(self, timeout: timedelta) -> None:
        """Run until all is written, or until ``timeout``: waiting events are then dropped and counted."""

        def close() -> None:
            for queue in self._queues:
                queue.close()

        self._loop.later(timeout, close)
        self._loop.run(lambda: self.idle)

    def dropped(self) -> dict[str, int]:
        """Return the number of dropped events by sink; empty if there are none."""
        return {queue.name: queue.dropped for queue in self._queues if queue.dropped}


class _SinkQueue:
    def __init__(self, loop: Loop, name: str, sink: EventSink) -> None:
        self._loop = loop
        self.name = name
        self._sink = sink
        self._waiting: deque[Sequence[Event] | JobProgress] = deque()
        self._events_waiting = 0
        self._busy = False
        self._pausing = False
        self._attempts = 0
        self._max_attempts = _MAX_ATTEMPTS
        self._overflowed = False
        self._closed = False
        self.takes_progress = isinstance(sink, ProgressSink)
        self.dropped = 0

    @property
    def idle(self) -> bool:
        return not self._busy and not self._waiting

    def write(self, events: Sequence[Event]) -> None:
        if self._closed or (self._events_waiting and self._events_waiting + len(events) > _MAX_WAITING_EVENTS):
            self.dropped += len(events)
            if not self._overflowed:
                self._overflowed = True
                log.warning(f'The event sink "{self.name}" is too slow; events are dropped')
            return
        self._events_waiting += len(events)
        self._add(events)

    def send_progress(self, progress: JobProgress) -> None:
        if not self.takes_progress or self._closed:
            return
        # The first item may be in a call; of the others, the newest progress is enough.
        last = self._waiting[-1] if len(self._waiting) > 1 else None
        if isinstance(last, JobProgress) and last.phase is JobPhase.RUNNING:
            self._waiting[-1] = progress
        else:
            self._add(progress)

    def close(self) -> None:
        """Drop what waits; an open call is still awaited."""
        self._closed = True
        while len(self._waiting) > (1 if self._busy and not self._pausing else 0):
            self._drop(self._waiting.pop())
        if self._pausing:
            self._busy = False

    def _add(self, item: Sequence[Event] | JobProgress) -> None:
        self._waiting.append(item)
        if not self._busy:
            self._busy = True
            self._next()

    def _next(self) -> None:
        self._pausing = False
        if not self._waiting:
            self._busy = False
            return
        is_last = 1 < self._max_attempts == self._attempts + 1
        self._loop.call(functools.partial(self._deliver, self._waiting[0], is_last), self._written, self._failed)

    def _deliver(self, item: Sequence[Event] | JobProgress, is_last: bool) -> int:
        """Return the number of events that the sink refused while it took others."""
        if isinstance(item, JobProgress):
            if isinstance(self._sink, ProgressSink):
                self._sink.progress(item)
            return 0
        refused = 0
        if is_last:
            refused = self._write_each(item)
        else:
            self._sink.write(item)
        self._sink.flush()
        return refused

    def _write_each(self, events: Sequence[Event]) -> int:
        refused = 0
        for number, event in enumerate(events, start=1):
            try:
                self._sink.write((event,))
            except Exception:
                refused += 1
                if refused == number == min(len(events), _SAMPLE):
                    raise
        return refused

    def _written(self, refused: int) -> None:
        done = self._waiting.popleft()
        if not isinstance(done, JobProgress):
            self._events_waiting -= len(done)
            self._max_attempts = _MAX_ATTEMPTS
        if refused:
            self.dropped += refused
            log.warning(f'The event sink "{self.name}" cannot take some events; dropped: {refused:,}')
        self._attempts = 0
        self._next()

    def _failed(self, error: Exception) -> None:
        self._attempts += 1
        is_progress = isinstance(self._waiting[0], JobProgress)
        if self._attempts < self._max_attempts and not self._closed and not is_progress:
            self._pausing = True
            self._loop.later(_BACKOFF * self._attempts, self._next_if_waiting)
            return
        self._attempts = 0
        dropped = self._waiting.popleft()
        if isinstance(dropped, JobProgress):
            log.warning(f'The event sink "{self.name}" did not accept progress: {error}')
        else:
            self._drop(dropped)
            if self._max_attempts > 1:
                log.warning(f'The event sink "{self.name}" did not accept {len(dropped)} events: {error}')
            # One attempt for each batch until one succeeds.
            self._max_attempts = 1
        self._next()

    def _next_if_waiting(self) -> None:
        if self._pausing:
            self._next()

    def _drop(self, item: Sequence[Event] | JobProgress) -> None:
        if not isinstance(item, JobProgress):
            self.dropped += len(item)
            self._events_waiting -= len(item)
