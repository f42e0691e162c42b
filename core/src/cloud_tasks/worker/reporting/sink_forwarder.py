"""Forwarding of events to additional sinks (``--event-sinks``), which never delay a task or end a run.

Invariants, each with a test:

1. A batch that a sink fails to write is retried; events that it cannot write in time are dropped, counted and logged.
2. Durable sinks and acks do not wait for forwarded events.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from cloud_tasks.convert import decode_events
from cloud_tasks.plugin import EventSink
from cloud_tasks.worker.common.formatting import counted
from cloud_tasks.worker.common.log import Log

__all__ = ["SinkForwarder"]

_MAX_WAITING = 50_000
_BATCH = 1000
_RETRY_INTERVAL = 1.0
_GRACE = 5.0
"""Seconds after the flush period for which a call of the sink may continue."""


class SinkForwarder:
    """A sink that forwards all events to another sink from a thread of its own.

    Args:
        name: Name of the sink, for the log.
        flush_period: Seconds that `close` may take.
    """

    def __init__(self, name: str, sink: EventSink, *, flush_period: float, log: Log) -> None:
        self._name = name
        self._sink = sink
        self._flush_period = flush_period
        self._log = log
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._deadline = float("inf")
        self.undelivered = 0
        """Number of events that wait, are in a call of the sink or were dropped."""
        self._thread = threading.Thread(target=self._serve, name=f"worker-sink-{name}", daemon=True)
        self._thread.start()

    def write(self, events: Sequence[bytes]) -> None:
        """Queue events; drop those for which the queue has no room."""
        with self._changed:
            capacity = max(0, _MAX_WAITING - len(self._waiting))
            self._waiting.extend(events[:capacity])
            self.undelivered += len(events)
            self._changed.notify()

    def close(self) -> None:
        """Forward the waiting events for at most the flush period and end the thread."""
        with self._changed:
            self._deadline = time.monotonic() + self._flush_period
            self._closing.set()
            self._changed.notify()
        self._thread.join(self._flush_period + _GRACE)
        if self.undelivered:
            self._log.warning(f'The event sink "{self._name}" did not get {counted(self.undelivered, "event")}')

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing.is_set():
                    self._changed.wait()
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            if not batch or not self._forward(batch):
                return
            with self._changed:
                self.undelivered -= len(batch)

    def _forward(self, batch: Sequence[bytes]) -> bool:
        events, _ = decode_events(b"[" + b",".join(batch) + b"]")
        is_logged = False
        while True:
            try:
                self._sink.write(events)
                self._sink.flush()
            except Exception as error:
                if not is_logged:
                    self._log.warning(f'The event sink "{self._name}" failed, retrying: {error}')
                    is_logged = True
                if time.monotonic() >= self._deadline:
                    return False
                # Only `close` ends the pause; new events do not.
                pause = time.sleep if self._closing.is_set() else self._closing.wait
                pause(_RETRY_INTERVAL)
            else:
                return True
