"""Copies events to the sinks that the user asked for.

Invariant, with a test: a sink that fails never stops a run. Its batch is tried again; past `_TRIES` it is dropped,
counted, and told at the end. The database has every event all the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta

import structlog

from cloud_tasks.controller.loop import Loop
from cloud_tasks.model import Event
from cloud_tasks.plugin import EventSink

__all__ = ["EventCopies"]

log = structlog.get_logger()

_TRIES = 5
_PAUSE = timedelta(seconds=1)


class EventCopies:
    """One lane per sink: a slow or broken sink does not hold up the others."""

    def __init__(self, loop: Loop, sinks: Mapping[str, EventSink]) -> None:
        self._lanes = [_Lane(loop, name, sink) for name, sink in sinks.items()]

    def write(self, events: Sequence[Event]) -> None:
        """Hand a batch to every sink."""
        for lane in self._lanes:
            lane.write(events)

    @property
    def idle(self) -> bool:
        """Whether every batch was written or given up."""
        return all(lane.idle for lane in self._lanes)

    def lost(self) -> dict[str, int]:
        """Events that each sink did not take; empty when it took all."""
        return {lane.name: lane.lost for lane in self._lanes if lane.lost}


class _Lane:
    def __init__(self, loop: Loop, name: str, sink: EventSink) -> None:
        self._loop = loop
        self.name = name
        self._sink = sink
        self._waiting: deque[Sequence[Event]] = deque()
        self._busy = False
        self._tries = 0
        self.lost = 0

    @property
    def idle(self) -> bool:
        return not self._busy and not self._waiting

    def write(self, events: Sequence[Event]) -> None:
        self._waiting.append(events)
        if not self._busy:
            self._busy = True
            self._next()

    def _next(self) -> None:
        if not self._waiting:
            self._busy = False
            return
        batch = self._waiting[0]

        def work() -> None:
            self._sink.write(batch)
            self._sink.flush()

        self._loop.call(work, self._written, self._failed)

    def _written(self, _: None) -> None:
        self._waiting.popleft()
        self._tries = 0
        self._next()

    def _failed(self, error: Exception) -> None:
        self._tries += 1
        if self._tries < _TRIES:
            self._loop.later(_PAUSE * self._tries, self._next)
            return
        dropped = self._waiting.popleft()
        self._tries = 0
        self.lost += len(dropped)
        log.warning(f'The event sink "{self.name}" did not take {len(dropped)} events: {error}')
        self._next()
