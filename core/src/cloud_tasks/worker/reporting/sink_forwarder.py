"""Forwarding of events to additional sinks (``--event-sinks``), which never delay a task or end a run.

Invariants, each with a test:

1. A batch that a sink fails to write is retried; events that it cannot write in time are dropped, counted and logged.
   So is an event that it refuses while it takes others: no event stops the others.
2. Durable sinks and acks do not wait for forwarded events.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from cloud_tasks.convert import MalformedMessageError, decode_events
from cloud_tasks.model import Event
from cloud_tasks.plugin import EventSink
from cloud_tasks.worker.common.formatting import counted
from cloud_tasks.worker.common.log import Log

__all__ = ["SinkForwarder"]

_MAX_WAITING = 50_000
_BATCH = 1000
_RETRY_INTERVAL = 1.0
_ATTEMPTS = 5
"""Failed attempts after which the events of a batch are written one by one."""
_SAMPLE = 3
"""Events that fail one by one before the sink itself is taken to fail."""
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
                if not self._waiting:
                    return
            batch = self._take()
            if batch and not self._forward(batch):
                return

    def _take(self) -> list[Event]:
        """Return the next waiting events; those that no sink could take are dropped."""
        with self._changed:
            encoded = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        try:
            events, _ = decode_events(b"[" + b",".join(encoded) + b"]")
        except MalformedMessageError:
            events = ()
        self._count_done(len(encoded) - len(events))
        return list(events)

    def _forward(self, events: list[Event]) -> bool:
        """Write events until it succeeds; return False once there is no time left."""
        attempts = 0
        while True:
            problem = self._write(events)
            if not problem:
                self._count_done(len(events))
                return True
            attempts += 1
            if attempts == 1:
                self._log.warning(f'The event sink "{self._name}" failed, retrying: {problem}')
            if time.monotonic() >= self._deadline:
                return False
            if attempts % _ATTEMPTS == 0:
                # Others show whether it is the sink that fails, or one event.
                events += self._take() if len(events) == 1 and self._waiting else []
                if not self._write_each(events):
                    return True
            # Only `close` ends the pause; new events do not.
            pause = time.sleep if self._closing.is_set() else self._closing.wait
            pause(_RETRY_INTERVAL)

    def _write(self, events: Sequence[Event]) -> str:
        """Write events; return the reason of a failure, empty for none."""
        try:
            self._sink.write(events)
            self._sink.flush()
        except (Exception, SystemExit) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def _write_each(self, events: Sequence[Event]) -> bool:
        """Write events one by one, and drop those that fail where others succeed; return False if that was done.

        Return True if the sink fails for all: they are to be retried.
        """
        refused = 0
        for number, event in enumerate(events, start=1):
            refused += bool(self._write((event,)))
            if refused == number == min(len(events), _SAMPLE):
                return True
        self._count_done(len(events) - refused)
        self._log.warning(f'The event sink "{self._name}" cannot take {counted(refused, "event")}')
        return False

    def _count_done(self, number: int) -> None:
        with self._changed:
            self.undelivered -= number
