"""Consumer of a local source: a thread reads tasks in advance; retries wait in memory.

Invariants, each with a test:

1. At most a few hundred tasks of the source are in memory, however long it is.
2. While 10,000 retries wait, no new task is read.
3. A source that fails ends the run with an error, once the tasks that it had yielded are finished; so does a source
   without tasks, unless that is allowed, and an id that occurs again, of the first million ids.
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

from cloud_tasks.compact_json import compact_encoder
from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.worker.consumers.attempt_types import LONG_BODY, PendingAttempt
from cloud_tasks.worker.consumers.local_source import LocalSource

__all__ = ["LocalConsumer"]

_PREFETCH = 256
_encode = compact_encoder()
_MAX_RETRIES = 10_000
_MAX_SEEN = 1_000_000
"""Ids whose hashes are kept to find duplicates: about 70 MB. Any task is compared with them, however many there are."""


class LocalConsumer:
    """Consumer of a task file, a factory or a parameter grid.

    Args:
        source: Opens the source, in the thread that reads it.
        skip: Number of tasks to leave out at the start.
        limit: Maximum number of tasks; None for all.
        is_selected: Returns whether to run the task of an id; None for all tasks.
        allow_empty: Whether a source without tasks is accepted.
        on_change: Called from the thread when there may be new tasks.
    """

    def __init__(
        self,
        source: Callable[[], AbstractContextManager[LocalSource]],
        *,
        skip: int = 0,
        limit: int | None = None,
        is_selected: Callable[[str], bool] | None = None,
        allow_empty: bool = False,
        on_change: Callable[[], None],
    ) -> None:
        self._source = source
        self._skip = skip
        self._limit = limit
        self._is_selected = is_selected
        self._allow_empty = allow_empty
        self._seen: set[int] = set()
        self._number_read = 0
        self._on_change = on_change
        self._ready: deque[PendingAttempt] = deque()
        self._retries: list[tuple[float, int, PendingAttempt]] = []
        self._order = itertools.count()
        self._space = threading.Condition()
        self._ended = False
        self._stopped = False
        self._starved = True
        self._thread = threading.Thread(target=self._read, name="worker-source", daemon=True)
        self.failure = ""
        self.expected: int | None = None

    def start(self) -> None:
        self._thread.start()

    def request(self, idle_slots: int, *, mean_seconds: float | None) -> None:
        """Do nothing: the thread reads a fixed number of tasks in advance."""

    def get(self) -> PendingAttempt | None:
        if self._stopped:
            return None
        if self._retries and self._retries[0][0] <= time.monotonic():
            return heapq.heappop(self._retries)[2]
        try:
            work = self._ready.popleft()
        except IndexError:
            self._starved = True
            if not self._ready:
                return None
            work = self._ready.popleft()
        if len(self._ready) == _PREFETCH // 2:
            with self._space:
                self._space.notify()
        return work

    @property
    def due_at(self) -> float | None:
        return self._retries[0][0] if self._retries else None

    @property
    def is_refused(self) -> bool:
        return False

    @property
    def exhausted(self) -> bool:
        return self._ended and not self._ready and not self._retries

    def requeue(self, work: PendingAttempt, delay: float) -> bool:
        heapq.heappush(self._retries, (time.monotonic() + delay, next(self._order), work))
        return True

    def take_surplus(self, mean_seconds: float) -> Sequence[PendingAttempt]:
        """Return nothing: no other worker reads this source."""
        return ()

    def mark_leases_lost(self, lease_ids: Sequence[str]) -> None:
        """Do nothing: tasks of a local source have no leases."""

    def stop(self) -> Sequence[PendingAttempt]:
        self._stopped = True
        with self._space:
            self._space.notify()
        return ()

    def close(self) -> None:
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(2.0)

    def _read(self) -> None:
        try:
            with self._source() as source:
                self.expected = source.expected
                self._read_tasks(source)
        except CloudTasksError as error:
            self.failure = str(error)
        except (Exception, SystemExit) as error:
            self.failure = f"the task source failed: {type(error).__name__}: {error}"
        finally:
            self._ended = True
            self._on_change()

    def _read_tasks(self, source: LocalSource) -> None:
        number = 0
        while not self._stopped and (self._limit is None or number < self._limit):
            self._wait_for_space()
            task = next(source.tasks, None)
            if task is None:
                if not self._number_read and not self._allow_empty:
                    raise InputError("no tasks", where=source.where, hint="add --allow-empty to accept that")
                return
            task_id, data = task
            self._number_read += 1
            self._check_unique(task_id, source)
            if self._skip > 0:
                self._skip -= 1
                continue
            if self._is_selected is not None and not self._is_selected(task_id):
                continue
            number += 1
            self._ready.append(PendingAttempt(task_id, _payload(data)))
            if self._starved:
                self._starved = False
                self._on_change()

    def _check_unique(self, task_id: str, source: LocalSource) -> None:
        key = hash(task_id)
        if key in self._seen:
            raise InputError(
                f'task {self._number_read}: duplicate id "{task_id}"',
                where=source.place(),
                hint="give every task a unique id",
            )
        if len(self._seen) < _MAX_SEEN:
            self._seen.add(key)

    def _wait_for_space(self) -> None:
        if len(self._ready) < _PREFETCH and len(self._retries) < _MAX_RETRIES:
            return
        with self._space:
            while not self._stopped and (len(self._ready) > _PREFETCH // 2 or len(self._retries) >= _MAX_RETRIES):
                self._space.wait(1.0)


def _payload(data: Any) -> dict[str, Any] | bytes:
    """Return the data as a queue would deliver it: encoded as JSON and decoded again."""
    body = _encode({"data": data})
    if len(body) >= LONG_BODY:
        return body.encode()
    decoded: dict[str, Any] = json.loads(body)["data"]
    return decoded
