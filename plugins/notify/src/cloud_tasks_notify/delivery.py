"""Delivery of notifications by a background thread, with retries.

Invariants, each with a test:

1. Only the thread of this module waits for the network; `close` waits for `patience` at most.
2. A notification that cannot be delivered is retried with increasing back-off, then dropped, counted and logged.
3. An attempt that started before `close` and failed is retried at once, whether its failure arrives before or after.
"""

from __future__ import annotations

import queue
import threading
import time

import structlog

from cloud_tasks_notify.address import THREAD_NAME
from cloud_tasks_notify.senders import Sender

__all__ = ["NotificationQueue"]

log = structlog.get_logger()

_MAX_WAITING = 100
_MAX_ATTEMPTS = 8
_FIRST_BACKOFF, _MAX_BACKOFF = 1.0, 60.0
"""Seconds."""


class NotificationQueue:
    """Ordered queue of notifications with a delivery thread.

    Args:
        send: Sends one text.
        patience: Time limit of `close` in seconds.
    """

    def __init__(self, send: Sender, *, patience: float, first_backoff: float = _FIRST_BACKOFF) -> None:
        self._send = send
        self._patience = patience
        self._first_backoff = first_backoff
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._reason = ""
        # Each counter is written by one thread: the caller, or the delivery thread.
        self._accepted = 0
        self._delivered = 0

    @property
    def undelivered(self) -> int:
        """Number of notifications not delivered so far."""
        return self._accepted - self._delivered

    def put(self, text: str) -> None:
        """Enqueue a text for delivery, or drop it if too many wait already; never blocks."""
        self._accepted += 1
        if self._closing.is_set() or self._waiting.qsize() >= _MAX_WAITING:
            return
        self._waiting.put(text)
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver_all, name=THREAD_NAME, daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait for the last deliveries and log the number of failed ones. Idempotent."""
        if self._closing.is_set():
            return
        self._deadline = time.monotonic() + self._patience
        self._closing.set()
        self._waiting.put(None)
        if self._thread is not None:
            self._thread.join(self._patience)
        if self.undelivered:
            count = "1 notification was" if self.undelivered == 1 else f"{self.undelivered} notifications were"
            log.warning(f"{count} not delivered" + (f" ({self._reason})" if self._reason else ""))

    def _deliver_all(self) -> None:
        while (text := self._waiting.get()) is not None and time.monotonic() < self._deadline:
            try:
                self._delivered += self._deliver(text)
            except Exception as error:
                # The next notification may be in order.
                self._reason = f"{type(error).__name__}"
                log.warning(f"Notification dropped: {self._reason}")

    def _deliver(self, text: str) -> bool:
        backoff = self._first_backoff
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            before_close = not self._closing.is_set()
            failure = self._send(text)
            if failure is None:
                return True
            self._reason = failure.reason
            if not failure.transient or attempt == _MAX_ATTEMPTS:
                break
            log.debug(f"Notification not delivered ({failure.reason}); retrying")
            if not self._wait(max(backoff, min(failure.retry_after, _MAX_BACKOFF)), before_close=before_close):
                return False
            backoff = min(backoff * 2, _MAX_BACKOFF)
        log.warning(f"Notification dropped: {self._reason}")
        return False

    def _wait(self, seconds: float, *, before_close: bool) -> bool:
        """Wait for the next attempt; return False if it would be too late.

        Args:
            before_close: The failed attempt started before `close`, which therefore ends the wait.
        """
        if before_close:
            self._closing.wait(seconds)
            return time.monotonic() < self._deadline
        if time.monotonic() + seconds >= self._deadline:
            return False
        time.sleep(seconds)
        return True
