"""Changes to the job database that wait while it is locked by another program or its disk is full.

Invariants, each with a test:

1. Changes are made in the order of their calls, each once, however long the database is unavailable.
2. The loop continues meanwhile: no call waits for the database longer than one attempt.
3. One warning names the obstacle and its beginning, one line its end.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog

from cloud_tasks.controller.event_loop import Loop, sleep
from cloud_tasks.errors import StoreUnavailableError
from cloud_tasks.quantities import counted, format_span
from cloud_tasks.store import Store

__all__ = ["DeferredWrites", "wait_for_store"]

log = structlog.get_logger()

_T = TypeVar("_T")

_MIN_BACKOFF = timedelta(seconds=1)
_MAX_BACKOFF = timedelta(seconds=10)


class DeferredWrites:
    """The changes of one run to its store, which every part of the controller makes through one object."""

    def __init__(self, loop: Loop, store: Store) -> None:
        self._loop = loop
        self._store = store
        self._waiting: deque[tuple[Callable[[], Any], Callable[[Any], object]]] = deque()
        self._backoff = _MIN_BACKOFF
        self.blocked_since: datetime | None = None
        """Time since which the database has been unavailable; None while it can be used."""

    @property
    def blocked(self) -> bool:
        """Whether the database is unavailable."""
        return self.blocked_since is not None

    def submit(self, change: Callable[[], _T], then: Callable[[_T], object] = lambda _: None) -> None:
        """Make a change and pass its result on: now, or after the changes that wait already.

        Args:
            change: Called again if it raised `StoreUnavailableError`; any other exception is raised.
        """
        if self.blocked:
            self._waiting.append((change, then))
            return
        try:
            result = change()
        except StoreUnavailableError as error:
            self._waiting.append((change, then))
            self.block(error)
        else:
            then(result)

    def attempt(self, change: Callable[[], object]) -> bool:
        """Make a change that the next pass decides on again; return False where it could not be made."""
        if self.blocked:
            return False
        try:
            change()
        except StoreUnavailableError as error:
            self.block(error)
            return False
        return True

    def block(self, error: StoreUnavailableError) -> None:
        """Note that the database is unavailable, and try it again until it is not."""
        if self.blocked:
            return
        self.blocked_since = self._loop.now()
        log.warning(
            f"The job database cannot be used since {self.blocked_since:%Y-%m-%d %H:%M:%S} UTC: {error}; the run "
            "continues, events wait in the event queue, no instance is launched meanwhile"
        )
        self._backoff = _MIN_BACKOFF
        self._loop.later(self._backoff, self._retry)

    async def settle(self, timeout: timedelta | None) -> None:
        """Wait until no change waits, for ``timeout`` at most; None: without a limit."""
        started = self._loop.now()
        while self._waiting and (timeout is None or self._loop.now() - started < timeout):
            await sleep(self._loop, _MIN_BACKOFF)
        if self._waiting:
            log.warning(
                f"{counted(len(self._waiting), 'change')} could not be written to the job database; "
                "the same facts are collected again when the job is resumed"
            )

    def _retry(self) -> None:
        try:
            self._store.check_writable()
            while self._waiting:
                self._make_next()
        except StoreUnavailableError:
            self._backoff = min(self._backoff * 2, _MAX_BACKOFF)
            self._loop.later(self._backoff, self._retry)
            return
        assert self.blocked_since is not None
        span = format_span(self._loop.now() - self.blocked_since)
        self.blocked_since = None
        log.warning(f"The job database can be used again, after {span}")

    def _make_next(self) -> None:
        change, then = self._waiting.popleft()
        try:
            result = change()
        except StoreUnavailableError:
            self._waiting.appendleft((change, then))
            raise
        then(result)


def wait_for_store(use: Callable[[], _T], *, sleep: Callable[[float], None] = time.sleep) -> _T:
    """Use the database outside of a loop, after waiting while it is unavailable."""
    started: float | None = None
    while True:
        try:
            result = use()
        except StoreUnavailableError as error:
            if started is None:
                started = time.monotonic()
                log.warning(f"The job database cannot be used: {error}; waiting for it")
            sleep(_MIN_BACKOFF.total_seconds())
        else:
            if started is not None:
                span = format_span(timedelta(seconds=time.monotonic() - started))
                log.warning(f"The job database can be used again, after {span}")
            return result
