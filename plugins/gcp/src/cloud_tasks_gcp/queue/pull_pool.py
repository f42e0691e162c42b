"""Pool of pulls that outlive their callers: the next caller adopts a running pull.

A cancelled pull may already have been answered: its messages stay leased to no consumer until the lease ends, and
callers with short waits rarely receive any (known of Pub/Sub's client libraries). So a pull runs for as long as Pub/Sub
allows.

Invariants, each with a test:

1. A message that arrives while no caller waits, or in excess of the requested count, is given back at once.
2. A pull that failed while no caller waited is dropped: the error may be over.
3. The number of concurrent pulls is limited.
4. If a pull failed and nothing arrived afterwards, `take` raises the error instead of returning an empty list.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from google.api_core import exceptions as api

from cloud_tasks_gcp.queue.pubsub_errors import is_transient

__all__ = ["PullPool"]

_MAX_PULLS = 4
_INITIAL_BACKOFF, _MAX_BACKOFF = 0.05, 2.0


class _Pull:
    """A running pull request."""

    __slots__ = ("awaited", "call", "own", "requested")

    def __init__(self, requested: int) -> None:
        self.requested = requested
        self.call: Any = None
        self.awaited = True
        """Whether a caller waits for the pull."""
        self.own = True
        """Whether the waiting caller started the pull."""


class PullPool:
    """Pulls of one queue object. Thread-safe.

    Args:
        start_pull: Starts a pull of at most the given number of messages; returns its `grpc.Future`.
        give_back: Takes unclaimed messages; must not block, as it is called from gRPC threads.
    """

    def __init__(self, start_pull: Callable[[int], Any], give_back: Callable[[Sequence[Any]], None]) -> None:
        self._start_pull = start_pull
        self._give_back = give_back
        self._changed = threading.Condition()
        self._parked: list[_Pull] = []
        self._closed = False

    def take(self, count: int, wait: float) -> list[Any]:
        """Return at most ``count`` messages, waiting for the first. Raise the API's error as a `google.api_core`
        exception.

        Args:
            wait: Maximum wait in seconds.
        """
        deadline = time.monotonic() + wait
        backoff = _INITIAL_BACKOFF
        error: Exception | None = None
        while True:
            claimed = self._claim(count)
            try:
                messages, failure = self._wait(claimed, deadline)
            finally:
                self._park(claimed)
            if messages:
                self._return(messages[count:])
                return messages[:count]
            if failure is not None and not is_transient(failure):
                raise failure
            error = failure or error
            remaining = deadline - time.monotonic()
            if remaining <= 0 or self._closed:
                if error is not None and not self._closed:
                    raise error
                return []
            if failure is not None:
                time.sleep(min(backoff, remaining))
                backoff = min(2 * backoff, _MAX_BACKOFF)

    def close(self) -> None:
        """Cancel all pulls; waiting callers return an empty list."""
        with self._changed:
            self._closed = True
            parked, self._parked = self._parked, []
            self._changed.notify_all()
        for pull in parked:
            pull.call.cancel()

    def _claim(self, count: int) -> list[_Pull]:
        """Claim the pulls without a waiting caller, and start another if they are too small together."""
        with self._changed:
            if self._closed:
                return []
            claimed, self._parked = self._parked, []
            for pull in claimed:
                pull.awaited, pull.own = True, False
        missing = count - sum(pull.requested for pull in claimed)
        if missing > 0 and len(claimed) < _MAX_PULLS:
            claimed.append(self._start(missing))
        return claimed

    def _start(self, count: int) -> _Pull:
        pull = _Pull(count)
        pull.call = self._start_pull(count)
        pull.call.add_done_callback(lambda _: self._done(pull))
        return pull

    def _done(self, pull: _Pull) -> None:
        with self._changed:
            if pull.awaited:
                self._changed.notify_all()
                return
            if pull in self._parked:
                self._parked.remove(pull)
        messages, _ = _outcome(pull)
        self._return(messages)

    def _wait(self, claimed: list[_Pull], deadline: float) -> tuple[list[Any], Exception | None]:
        """Return the messages and the error of the finished pulls, and remove these from ``claimed``."""
        with self._changed:
            while not self._closed and claimed and not any(pull.call.done() for pull in claimed):
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    break
                self._changed.wait(remaining)
            finished = [pull for pull in claimed if pull.call.done()]
            claimed[:] = [pull for pull in claimed if pull not in finished]
        messages: list[Any] = []
        failure: Exception | None = None
        for pull in finished:
            received, error = _outcome(pull)
            messages += received
            if pull.own and error is not None:
                failure = error
        return messages, failure

    def _park(self, claimed: Sequence[_Pull]) -> None:
        """Leave these pulls to the next caller."""
        for pull in claimed:
            with self._changed:
                closed, finished = self._closed, pull.call.done()
                # A finished pull is handled here; its callback, which may still run, must ignore it.
                pull.awaited = finished
                if not closed and not finished:
                    self._parked.append(pull)
            if finished:
                messages, _ = _outcome(pull)
                self._return(messages)
            elif closed:
                pull.call.cancel()

    def _return(self, messages: Sequence[Any]) -> None:
        if messages:
            self._give_back(messages)


def _outcome(pull: _Pull) -> tuple[list[Any], Exception | None]:
    """Return the messages or the error of a finished pull; an empty pull has neither."""
    if pull.call.cancelled():
        return [], None
    error = pull.call.exception()
    if error is None:
        return list(pull.call.result().received_messages), None
    translated: Exception = api.from_grpc_error(error)
    return [], None if isinstance(translated, (api.DeadlineExceeded, api.Cancelled)) else translated
