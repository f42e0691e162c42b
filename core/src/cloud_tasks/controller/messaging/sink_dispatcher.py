"""Copies events to the sinks that the user asked for, and tells those that want to know how the job stands.

Invariants, each with a test:

1. A sink that fails never stops a run. Its batch is tried again; past `_TRIES` it is dropped, counted, and told at the
   end. The database has every event all the same.
2. What waits for a slow sink is bounded: events beyond `_MOST_WAITING` are dropped and counted.
3. A sink that stays broken holds up the end of a run by no more than the patience of `finish`.
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

_TRIES = 5
_PAUSE = timedelta(seconds=1)
_MOST_WAITING = 100_000
"""Events; some hundred megabytes with long results."""


class SinkDispatcher:
    """One lane per sink: a slow or broken sink does not hold up the others."""

    def __init__(self, loop: Loop, sinks: Mapping[str, EventSink]) -> None:
        self._loop = loop
        self._lanes = [_SinkQueue(loop, name, sink) for name, sink in sinks.items()]

    def write(self, events: Sequence[Event], *, only: Container[str] | None = None) -> None:
        """Hand a batch to every sink, or only to those of these names."""
        for lane in self._lanes:
            if only is None or lane.name in only:
                lane.write(events)

    @property
    def tells(self) -> bool:
        """Whether any sink wants to know how the job stands."""
        return any(lane.tells for lane in self._lanes)

    def tell(self, progress: JobProgress) -> None:
        """Say how the job stands to every sink that wants to know."""
        for lane in self._lanes:
            lane.tell(progress)

    @property
    def idle(self) -> bool:
        """Whether every batch was written or given up."""
        return all(lane.idle for lane in self._lanes)

    def finish(self, patience: timedelta) -> None:
        """Go on until all is written, or until ``patience`` is over: what waits then is dropped and counted."""

        def give_up() -> None:
            for lane in self._lanes:
                lane.give_up()

        self._loop.later(patience, give_up)
        self._loop.run(lambda: self.idle)

    def lost(self) -> dict[str, int]:
        """Events that each sink did not take; empty when it took all."""
        return {lane.name: lane.lost for lane in self._lanes if lane.lost}


class _SinkQueue:
    def __init__(self, loop: Loop, name: str, sink: EventSink) -> None:
        self._loop = loop
        self.name = name
        self._sink = sink
        self._waiting: deque[Sequence[Event] | JobProgress] = deque()
        self._events_waiting = 0
        self._busy = False
        self._pausing = False
        self._tries = 0
        self._most_tries = _TRIES
        self._overflowed = False
        self._over = False
        self.tells = isinstance(sink, ProgressSink)
        self.lost = 0

    @property
    def idle(self) -> bool:
        return not self._busy and not self._waiting

    def write(self, events: Sequence[Event]) -> None:
        if self._over or (self._events_waiting and self._events_waiting + len(events) > _MOST_WAITING):
            self.lost += len(events)
            if not self._overflowed:
                self._overflowed = True
                log.warning(f'The event sink "{self.name}" is too slow; it will miss events')
            return
        self._events_waiting += len(events)
        self._add(events)

    def tell(self, progress: JobProgress) -> None:
        if not self.tells or self._over:
            return
        # The first is being told, perhaps; of the others the newest is enough.
        last = self._waiting[-1] if len(self._waiting) > 1 else None
        if isinstance(last, JobProgress) and last.phase is JobPhase.RUNNING:
            self._waiting[-1] = progress
        else:
            self._add(progress)

    def give_up(self) -> None:
        """Drop what waits; a call that is under way is waited for."""
        self._over = True
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
        self._loop.call(functools.partial(self._hand_over, self._waiting[0]), self._written, self._failed)

    def _hand_over(self, item: Sequence[Event] | JobProgress) -> None:
        if not isinstance(item, JobProgress):
            self._sink.write(item)
            self._sink.flush()
        elif isinstance(self._sink, ProgressSink):
            self._sink.progress(item)

    def _written(self, _: None) -> None:
        done = self._waiting.popleft()
        if not isinstance(done, JobProgress):
            self._events_waiting -= len(done)
            self._most_tries = _TRIES
        self._tries = 0
        self._next()

    def _failed(self, error: Exception) -> None:
        self._tries += 1
        is_told = isinstance(self._waiting[0], JobProgress)
        if self._tries < self._most_tries and not self._over and not is_told:
            self._pausing = True
            self._loop.later(_PAUSE * self._tries, self._next_if_waiting)
            return
        self._tries = 0
        dropped = self._waiting.popleft()
        if isinstance(dropped, JobProgress):
            log.warning(f'The event sink "{self.name}" could not be told how the job stands: {error}')
        else:
            self._drop(dropped)
            if self._most_tries > 1:
                log.warning(f'The event sink "{self.name}" did not take {len(dropped)} events: {error}')
            # It is broken: one try for each batch, until one succeeds.
            self._most_tries = 1
        self._next()

    def _next_if_waiting(self) -> None:
        if self._pausing:
            self._next()

    def _drop(self, item: Sequence[Event] | JobProgress) -> None:
        if not isinstance(item, JobProgress):
            self.lost += len(item)
            self._events_waiting -= len(item)
