"""Pulls that are never given up: what a caller did not wait for is taken up by the next one.

A pull that is cut off by its caller may already have been answered: its messages are then leased to nobody until the
lease ends, and callers with short waits hardly ever get any (known of Pub/Sub's client libraries). So a pull runs for
as long as Pub/Sub lets it, and callers come and go.

Invariants, each with a test:

1. A message that comes while nobody waits, or that is more than was asked for, is given back at once.
2. A pull that failed while nobody waited is forgotten: its trouble may be over.
3. There are never more than a few pulls at a time.
4. Whoever met trouble and then nothing is told of the trouble, not that there is nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from google.api_core import exceptions as api

from cloud_tasks_gcp.queue.failures import is_passing

__all__ = ["Pulls"]

_MOST = 4
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


class _Pull:
    """One call under way."""

    __slots__ = ("asked", "call", "fresh", "wanted")

    def __init__(self, asked: int) -> None:
        self.asked = asked
        self.call: Any = None
        self.wanted = True
        """Whether a caller waits for it."""
        self.fresh = True
        """Whether that caller began it."""


class Pulls:
    """The pulls of one queue object. Thread-safe.

    Args:
        begin: Starts a pull of at most so many messages; returns its `grpc.Future`.
        give_back: Takes messages that nobody wants; must not block, it is called from threads of gRPC's.
    """

    def __init__(self, begin: Callable[[int], Any], give_back: Callable[[Sequence[Any]], None]) -> None:
        self._begin = begin
        self._give_back = give_back
        self._changed = threading.Condition()
        self._parked: list[_Pull] = []
        self._closed = False

    def take(self, count: int, wait: float) -> list[Any]:
        """At most ``count`` messages; waits for the first. Raises what the API answered, as `google.api_core` has it.

        Args:
            wait: Seconds.
        """
        deadline = time.monotonic() + wait
        pause = _FIRST_PAUSE
        trouble: Exception | None = None
        while True:
            mine = self._claim(count)
            try:
                messages, problem = self._wait(mine, deadline)
            finally:
                self._park(mine)
            if messages:
                self._return(messages[count:])
                return messages[:count]
            if problem is not None and not is_passing(problem):
                raise problem
            trouble = problem or trouble
            left = deadline - time.monotonic()
            if left <= 0 or self._closed:
                if trouble is not None and not self._closed:
                    raise trouble
                return []
            if problem is not None:
                time.sleep(min(pause, left))
                pause = min(2 * pause, _LONGEST_PAUSE)

    def close(self) -> None:
        """End all pulls; those who wait get nothing."""
        with self._changed:
            self._closed = True
            parked, self._parked = self._parked, []
            self._changed.notify_all()
        for pull in parked:
            pull.call.cancel()

    def _claim(self, count: int) -> list[_Pull]:
        """The pulls that nobody waits for, and another where they are too small together."""
        with self._changed:
            if self._closed:
                return []
            mine, self._parked = self._parked, []
            for pull in mine:
                pull.wanted, pull.fresh = True, False
        missing = count - sum(pull.asked for pull in mine)
        if missing > 0 and len(mine) < _MOST:
            mine.append(self._start(missing))
        return mine

    def _start(self, count: int) -> _Pull:
        pull = _Pull(count)
        pull.call = self._begin(count)
        pull.call.add_done_callback(lambda _: self._done(pull))
        return pull

    def _done(self, pull: _Pull) -> None:
        with self._changed:
            if pull.wanted:
                self._changed.notify_all()
                return
            if pull in self._parked:
                self._parked.remove(pull)
        messages, _ = _outcome(pull)
        self._return(messages)

    def _wait(self, mine: list[_Pull], deadline: float) -> tuple[list[Any], Exception | None]:
        """What the first of these pulls to end brought, and what those did that ended with it; they leave the list."""
        with self._changed:
            while not self._closed and mine and not any(pull.call.done() for pull in mine):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            ended = [pull for pull in mine if pull.call.done()]
            mine[:] = [pull for pull in mine if pull not in ended]
        messages: list[Any] = []
        problem: Exception | None = None
        for pull in ended:
            brought, error = _outcome(pull)
            messages += brought
            if pull.fresh and error is not None:
                problem = error
        return messages, problem

    def _park(self, mine: Sequence[_Pull]) -> None:
        """Leave these to the next caller."""
        for pull in mine:
            with self._changed:
                closed, ended = self._closed, pull.call.done()
                # What has ended is dealt with here; its callback, which may still come, is to leave it alone.
                pull.wanted = ended
                if not closed and not ended:
                    self._parked.append(pull)
            if ended:
                messages, _ = _outcome(pull)
                self._return(messages)
            elif closed:
                pull.call.cancel()

    def _return(self, messages: Sequence[Any]) -> None:
        if messages:
            self._give_back(messages)


def _outcome(pull: _Pull) -> tuple[list[Any], Exception | None]:
    """The messages of a pull that has ended, or why there are none; an empty one ends with neither."""
    if pull.call.cancelled():
        return [], None
    error = pull.call.exception()
    if error is None:
        return list(pull.call.result().received_messages), None
    meant: Exception = api.from_grpc_error(error)
    return [], None if isinstance(meant, (api.DeadlineExceeded, api.Cancelled)) else meant
