"""Copies of events for more sinks (``--event-sinks``). They never hold up a task, and never stop a run.

Invariants, each with a test:

1. A sink that fails gets its batch again; what it cannot take in time is dropped, counted and said.
2. The main sinks and the acks wait for no copy.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from cloud_tasks.convert import decode_events
from cloud_tasks.plugin import EventSink
from cloud_tasks.worker.common.log import Log

__all__ = ["SinkForwarder"]

_MOST_WAITING = 50_000
_BATCH = 1000
_PAUSE = 1.0


class SinkForwarder:
    """A main sink that passes everything on to another sink by a thread of its own."""

    def __init__(self, name: str, sink: EventSink, *, patience: float, log: Log) -> None:
        self._name = name
        self._sink = sink
        self._patience = patience
        self._log = log
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._give_up_at: float | None = None
        self.dropped = 0
        """Events that this sink never got."""
        self._thread = threading.Thread(target=self._serve, name=f"worker-sink-{name}", daemon=True)
        self._thread.start()

    def write(self, events: Sequence[bytes]) -> None:
        with self._changed:
            room = max(0, _MOST_WAITING - len(self._waiting))
            self._waiting.extend(events[:room])
            self.dropped += max(0, len(events) - room)
            self._changed.notify()

    def close(self) -> None:
        """Pass on what waits, for as long as the patience lasts."""
        with self._changed:
            self._give_up_at = time.monotonic() + self._patience
            self._changed.notify()
        self._thread.join(self._patience + 5.0)
        self.dropped += len(self._waiting)
        if self.dropped:
            self._log.warning(f'The event sink "{self._name}" did not get {self.dropped} events')

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and self._give_up_at is None:
                    self._changed.wait()
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            if not batch or not self._pass_on(batch):
                return

    def _pass_on(self, batch: Sequence[bytes]) -> bool:
        events, _ = decode_events(b"[" + b",".join(batch) + b"]")
        said = False
        while True:
            try:
                self._sink.write(events)
                self._sink.flush()
            except Exception as error:
                if not said:
                    self._log.warning(f'The event sink "{self._name}" failed: {error}; trying again')
                    said = True
                with self._changed:
                    if self._give_up_at is not None and time.monotonic() >= self._give_up_at:
                        self.dropped += len(batch)
                        return False
                    self._changed.wait(_PAUSE)
            else:
                return True
