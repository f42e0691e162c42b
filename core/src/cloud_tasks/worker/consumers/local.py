"""Tasks from a local source: read by a thread, a few ahead; retries wait in memory.

Invariants, each with a test:

1. However long the source, at most a few hundred of its tasks are in memory.
2. While many retries wait, nothing new is read.
3. A source that breaks off ends the run with an error, after what it had yielded is done.
"""

from __future__ import annotations

import heapq
import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.worker.consumers.attempt_types import LONG_BODY, PendingAttempt
from cloud_tasks.worker.consumers.local_source import LocalSource

__all__ = ["LocalConsumer"]

_AHEAD = 256
_MOST_RETRIES = 10_000


class LocalConsumer:
    """The feed of a task file, a factory, a parameter grid.

    Args:
        source: Opened in the thread that reads it.
        skip: How many tasks are left out at the start.
        limit: How many are done at most; None: all.
        wanted: Says of a task id whether it is to be done; None: all are.
        on_change: Called from the thread when something new is at hand.
    """

    def __init__(
        self,
        source: Callable[[], AbstractContextManager[LocalSource]],
        *,
        skip: int = 0,
        limit: int | None = None,
        wanted: Callable[[str], bool] | None = None,
        on_change: Callable[[], None],
    ) -> None:
        self._source = source
        self._skip = skip
        self._limit = limit
        self._wanted = wanted
        self._on_change = on_change
        self._ready: deque[PendingAttempt] = deque()
        self._retries: list[tuple[float, int, PendingAttempt]] = []
        self._order = itertools.count()
        self._room = threading.Condition()
        self._ended = False
        self._stopped = False
        self._starved = True
        self._thread = threading.Thread(target=self._read, name="worker-source", daemon=True)
        self.failure = ""
        self.expected: int | None = None
        """How many tasks there are in all, where that is known."""

    def start(self) -> None:
        self._thread.start()

    def want(self, idle_slots: int, *, mean_seconds: float | None) -> None:
        """Nothing to do: reading ahead is bounded by itself."""

    def get(self) -> PendingAttempt | None:
        if self._stopped:
            return None
        if self._retries and self._retries[0][0] <= time.time():
            return heapq.heappop(self._retries)[2]
        try:
            work = self._ready.popleft()
        except IndexError:
            self._starved = True
            if not self._ready:
                return None
            work = self._ready.popleft()
        if len(self._ready) == _AHEAD // 2:
            with self._room:
                self._room.notify()
        return work

    @property
    def due_at(self) -> float | None:
        return self._retries[0][0] if self._retries else None

    @property
    def exhausted(self) -> bool:
        return self._ended and not self._ready and not self._retries

    def again(self, work: PendingAttempt, delay: float) -> bool:
        heapq.heappush(self._retries, (time.time() + delay, next(self._order), work))
        return True

    def surplus(self, mean_seconds: float) -> Sequence[PendingAttempt]:
        """There is nobody to give it back to."""
        return ()

    def lost(self, lease_ids: Sequence[str]) -> None:
        """There are no leases."""

    def stop(self) -> Sequence[PendingAttempt]:
        self._stopped = True
        with self._room:
            self._room.notify()
        return ()

    def close(self) -> None:
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(2.0)

    def _read(self) -> None:
        try:
            with self._source() as source:
                self.expected = source.expected
                tasks = source.tasks
                number = 0
                while not self._stopped and (self._limit is None or number < self._limit):
                    self._wait_for_room()
                    task = next(tasks, None)
                    if task is None:
                        break
                    task_id, data = task
                    if self._skip > 0:
                        self._skip -= 1
                        continue
                    if self._wanted is not None and not self._wanted(task_id):
                        continue
                    number += 1
                    self._ready.append(PendingAttempt(task_id, _payload(data)))
                    if self._starved:
                        self._starved = False
                        self._on_change()
        except CloudTasksError as error:
            self.failure = str(error)
        except Exception as error:
            self.failure = f"the task source failed: {type(error).__name__}: {error}"
        finally:
            self._ended = True
            self._on_change()

    def _wait_for_room(self) -> None:
        if len(self._ready) < _AHEAD and len(self._retries) < _MOST_RETRIES:
            return
        with self._room:
            while not self._stopped and (len(self._ready) > _AHEAD // 2 or len(self._retries) >= _MOST_RETRIES):
                self._room.wait(1.0)


def _payload(given: Any) -> dict[str, Any] | bytes:
    """The data as a queue would bring it: through JSON, so that a task means the same here and there."""
    body = json.dumps({"data": given}, separators=(",", ":"))
    if len(body) >= LONG_BODY:
        return body.encode()
    data: dict[str, Any] = json.loads(body)["data"]
    return data
