"""An event sink: short messages to a webhook, as chat services take them.

Invariants, each with a test:

1. Nothing here waits for the network but a thread of its own, and `close`, which has its patience.
2. What cannot be delivered is tried again with growing pauses, then dropped, counted and told; the job goes on.
3. The address, and what a server answers, is in no log line.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Sequence
from typing import Any

import structlog

from cloud_tasks.builtin.sink_settings import WebhookSettings
from cloud_tasks.builtin.webhook_address import find_address
from cloud_tasks.builtin.webhook_notes import BudgetWatch, FailureWatch, Note, describe_end, escape_markup, fill_in
from cloud_tasks.model import Event, JobPhase, JobProgress
from cloud_tasks.plugin import EventSinkContext

__all__ = ["Delivery", "WebhookSink"]

log = structlog.get_logger()

_TIMEOUT = 10.0
"""Seconds for one request."""
_MOST_WAITING = 100
_TRIES = 8
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds."""
_TRY_AGAIN = (408, 425, 429)
"""Answers of the 400s that mean "later": request timeout (RFC 9110), too early (8470), too many requests (6585)."""


class WebhookSink:
    """Watches a job, and says so when there is something to say."""

    def __init__(self, settings: WebhookSettings, context: EventSinkContext) -> None:
        self._settings = settings
        self._job_id = context.job_id
        self._failures = FailureWatch(
            settings.failure_rate, window=settings.failure_window, sample=settings.failure_sample
        )
        self._budget = BudgetWatch(settings.budget, projected=settings.budget_projected)
        self._progress: JobProgress | None = None
        self._delivery = Delivery(find_address(settings), patience=settings.patience)

    def write(self, events: Sequence[Event]) -> None:
        for event in events:
            note = self._failures.take(event)
            if note is not None:
                self._send(note)

    def progress(self, progress: JobProgress) -> None:
        self._progress = progress
        for note in self._budget.take(progress):
            self._send(note)
        if progress.phase is not JobPhase.RUNNING and self._settings.on_finish:
            self._send(describe_end(progress))

    def flush(self) -> None:
        """Nothing to do: what is to be sent is on its way."""

    def close(self) -> None:
        """Wait for the last messages, as long as the patience lasts; does nothing the second time."""
        self._delivery.close()

    def _send(self, note: Note) -> None:
        field = self._settings.field
        text = fill_in(
            self._settings.template,
            note,
            job_id=self._job_id,
            progress=self._progress,
            rate=self._failures.rate,
            # The markup of Slack, which others that take its messages know as well.
            escape=escape_markup if field == "text" else str,
        )
        self._delivery.send({field: text})


class Delivery:
    """Posts JSON objects, one after the other, by a thread of its own.

    Args:
        address: A secret.
        patience: Seconds that `close` waits.
    """

    def __init__(self, address: str, *, patience: float, first_pause: float = _FIRST_PAUSE) -> None:
        self._address = address
        self._patience = patience
        self._first_pause = first_pause
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._give_up_at: float | None = None
        self._closed = False
        self._thread: threading.Thread | None = None
        self._reason = ""
        self.undelivered = 0
        """Messages that never arrived, as far as is known."""

    def send(self, body: dict[str, Any]) -> None:
        """Have it posted soon; never waits."""
        with self._changed:
            if self._closed or len(self._waiting) >= _MOST_WAITING:
                self.undelivered += 1
                return
            self._waiting.append(json.dumps(body).encode())
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="webhook", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Wait for what is on its way; does nothing the second time."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._give_up_at = time.monotonic() + self._patience
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(self._patience)
        with self._changed:
            self.undelivered += len(self._waiting)
            if self.undelivered:
                reason = f" ({self._reason})" if self._reason else ""
                what = "1 message" if self.undelivered == 1 else f"{self.undelivered} messages"
                log.warning(f"The webhook did not get {what}{reason}")

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                body = self._waiting[0]
            is_delivered = self._deliver(body)
            with self._changed:
                if self._is_over():
                    # Who waited counts what is left; it was delivered in the last moment, perhaps.
                    if is_delivered:
                        self._waiting.popleft()
                    return
                self._waiting.popleft()
                self.undelivered += not is_delivered

    def _deliver(self, body: bytes) -> bool:
        pause = self._first_pause
        for number in range(1, _TRIES + 1):
            problem = _post(self._address, body)
            if problem is None:
                return True
            self._reason = problem.reason
            if not problem.transient or number == _TRIES:
                break
            log.debug(f"The webhook was not reached ({problem.reason}); trying again")
            if not self._sleep(max(pause, min(problem.after, _LONGEST_PAUSE))):
                return False
            pause = min(pause * 2, _LONGEST_PAUSE)
        log.warning(f"A message to the webhook was given up: {self._reason}")
        return False

    def _sleep(self, seconds: float) -> bool:
        """Wait; returns whether there is time left for another try. Who begins to close has it tried at once."""
        until = time.monotonic() + seconds
        with self._changed:
            was_closed = self._closed
            while (left := until - time.monotonic()) > 0 and self._closed == was_closed:
                if self._give_up_at is not None and self._give_up_at <= until:
                    return False
                self._changed.wait(left)
        return True

    def _is_over(self) -> bool:
        return self._give_up_at is not None and time.monotonic() >= self._give_up_at


class _Problem:
    """Why a message was not taken; says nothing of the address."""

    def __init__(self, reason: str, *, transient: bool, after: float = 0.0) -> None:
        self.reason = reason
        self.transient = transient
        self.after = after


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A message is for the address that was given, and for no other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def _post(address: str, body: bytes) -> _Problem | None:
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "cloud-tasks"}
    request = urllib.request.Request(address, data=body, headers=headers, method="POST")
    try:
        with _opener.open(request, timeout=_TIMEOUT):
            return None
    except urllib.error.HTTPError as error:
        with error:
            after = error.headers.get("Retry-After", "") if error.headers else ""
            transient = error.code >= 500 or error.code in _TRY_AGAIN
            return _Problem(f"HTTP {error.code}", transient=transient, after=float(after) if after.isdigit() else 0.0)
    except (OSError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        # Only of an error of the system is the text known to hold nothing of the address.
        known = cause.strerror if isinstance(cause, OSError) and cause.strerror else type(cause).__name__
        return _Problem(str(known), transient=True)
    except ValueError as error:
        return _Problem(type(error).__name__, transient=False)
