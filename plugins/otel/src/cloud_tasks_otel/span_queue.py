"""Export of spans by a background thread.

Replaces the batch processor of OpenTelemetry's SDK, which neither counts dropped spans nor limits the time of a flush.

Invariants, each with a test:

1. Adding a span never blocks; at most ``max_spans`` spans wait.
2. Every span is sent or counted in `dropped`.
3. Flushing has a time limit.
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

__all__ = ["SpanQueue"]

log = structlog.get_logger()

_BATCH = 512
_RETRY_PERIOD = 60.0
"""Seconds for which one batch is retried."""
_FIRST_BACKOFF, _MAX_BACKOFF = 1.0, 15.0
"""Seconds between attempts; the exporter also retries, within its own timeout."""


class SpanQueue(SpanProcessor):
    """Pass ended spans to an exporter.

    Args:
        max_spans: Maximum number of waiting spans.
        retry_period: Seconds for which one batch is retried.
    """

    def __init__(self, exporter: SpanExporter, *, max_spans: int, retry_period: float = _RETRY_PERIOD) -> None:
        self._exporter = exporter
        self._max_spans = max_spans
        self._retry_period = retry_period
        self._waiting: deque[ReadableSpan] = deque()
        self._changed = threading.Condition()
        self._in_flight = 0
        self._closing = False
        self._is_reachable = True
        self.dropped = 0
        """Number of spans that were not delivered."""
        self._thread = threading.Thread(target=self._export_all, name="otel-spans", daemon=True)
        self._thread.start()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Do nothing: a span is sent when it has ended."""

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is None or not span.context.trace_flags.sampled:
            return
        with self._changed:
            if self._closing or len(self._waiting) >= self._max_spans:
                self.dropped += 1
                return
            self._waiting.append(span)
            self._changed.notify_all()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until all spans are sent or dropped, or the timeout; not while the receiver is unreachable."""
        deadline = time.monotonic() + timeout_millis / 1000
        with self._changed:
            while (self._waiting or self._in_flight) and self._is_reachable:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return not (self._waiting or self._in_flight)

    def shutdown(self) -> None:
        """Accept no further spans and drop waiting ones. Call `force_flush` before."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self.dropped += len(self._waiting) + self._in_flight
            self._waiting.clear()
            self._changed.notify_all()
        # Interrupts a waiting exporter.
        self._exporter.shutdown()
        self._thread.join(1.0)

    def _export_all(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                self._in_flight = len(batch)
            is_sent = self._send(batch)
            with self._changed:
                if not self._closing:
                    self.dropped += 0 if is_sent else len(batch)
                self._in_flight = 0
                self._changed.notify_all()

    def _send(self, batch: Sequence[ReadableSpan]) -> bool:
        deadline = time.monotonic() + self._retry_period
        backoff = _FIRST_BACKOFF
        while True:
            try:
                is_sent = self._exporter.export(batch) is SpanExportResult.SUCCESS
            except Exception:  # without this thread, no later span would be sent
                is_sent = False
            with self._changed:
                if self._closing:
                    return is_sent
                if is_sent is not self._is_reachable:
                    self._is_reachable = is_sent
                    self._changed.notify_all()
                    self._log_change(is_sent)
                if is_sent or time.monotonic() + backoff > deadline:
                    return is_sent
                self._changed.wait_for(lambda: self._closing, backoff)
                backoff = min(backoff * 2, _MAX_BACKOFF)

    def _log_change(self, is_reachable: bool) -> None:
        if is_reachable:
            log.info("OpenTelemetry: the receiver accepts spans again")
        else:
            log.warning(
                "OpenTelemetry: the receiver does not accept spans; they wait, and are dropped if the queue is full"
            )
