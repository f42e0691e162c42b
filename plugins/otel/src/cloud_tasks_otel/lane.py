"""Sends spans by a thread of its own.

The batch processor of OpenTelemetry's SDK does not count what it drops, and its flush waits without end.

Invariants, each with a test:

1. Taking a span never waits; at most ``most`` spans are held.
2. Every span is sent, or counted in `dropped`.
3. Waiting for what is to be sent has an end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

import structlog
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

__all__ = ["SpanLane"]

log = structlog.get_logger()

_BATCH = 512
_PERSISTENCE = 60.0
"""Seconds for which one batch is tried again."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 15.0
"""Seconds between two tries; the exporter itself tries again meanwhile, within its own timeout."""


class SpanLane(SpanProcessor):
    """Passes ended spans on to an exporter.

    Args:
        most: How many may wait.
    """

    def __init__(self, exporter: SpanExporter, *, most: int, persistence: float = _PERSISTENCE) -> None:
        self._exporter = exporter
        self._most = most
        self._persistence = persistence
        self._waiting: deque[ReadableSpan] = deque()
        self._changed = threading.Condition()
        self._under_way = 0
        self._closing = False
        self._is_reachable = True
        self.dropped = 0
        """Spans that the receiver never got, as far as is known."""
        self._thread = threading.Thread(target=self._serve, name="otel-spans", daemon=True)
        self._thread.start()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing to do: a span is sent when it has ended."""

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is None or not span.context.trace_flags.sampled:
            return
        with self._changed:
            if self._closing or len(self._waiting) >= self._most:
                self.dropped += 1
                return
            self._waiting.append(span)
            self._changed.notify_all()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until all is sent or dropped, so long at most; not at all while the receiver cannot be reached."""
        deadline = time.monotonic() + timeout_millis / 1000
        with self._changed:
            while (self._waiting or self._under_way) and self._is_reachable:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return not (self._waiting or self._under_way)

    def shutdown(self) -> None:
        """Take no more; what waits is dropped. Call `force_flush` before."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self.dropped += len(self._waiting) + self._under_way
            self._waiting.clear()
            self._changed.notify_all()
        # Ends what the exporter is waiting for.
        self._exporter.shutdown()
        self._thread.join(1.0)

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                self._under_way = len(batch)
            is_sent = self._send(batch)
            with self._changed:
                if not self._closing:
                    self.dropped += 0 if is_sent else len(batch)
                self._under_way = 0
                self._changed.notify_all()

    def _send(self, batch: Sequence[ReadableSpan]) -> bool:
        give_up_at = time.monotonic() + self._persistence
        pause = _FIRST_PAUSE
        while True:
            is_sent = self._exporter.export(batch) is SpanExportResult.SUCCESS
            with self._changed:
                if self._closing:
                    return is_sent
                if is_sent is not self._is_reachable:
                    self._is_reachable = is_sent
                    self._changed.notify_all()
                    self._tell(is_sent)
                if is_sent or time.monotonic() + pause > give_up_at:
                    return is_sent
                self._changed.wait_for(lambda: self._closing, pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _tell(self, is_reachable: bool) -> None:
        if is_reachable:
            log.info("OpenTelemetry: the receiver takes spans again")
        else:
            log.warning("OpenTelemetry: the receiver takes no spans; they wait, and are dropped when too many do")
