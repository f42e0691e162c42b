"""The way of tasks' logs to a store.

Invariants, each with a test:

1. The event of an attempt names the place of its log; nothing waits for the upload, and its failure fails no task.
2. What is not uploaded is said, with the number of logs and the reason.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable

from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.task_process.output_capture import log_path

__all__ = ["LogUploader"]

_THREADS = 4
_MOST_WAITING = 20_000
_ATTEMPTS = 4
_FIRST_PAUSE = 0.5


class LogUploader:
    """Uploads logs by threads of its own, a few at a time, each a few times if need be.

    Args:
        folder: Where the logs are.
        store: A folder or URL.
        keep: Whether a log stays where it is when it has been uploaded.
        on_problem: Told, from a thread, why logs are not uploaded; once for each kind of error.
    """

    def __init__(self, folder: str, store: str, *, keep: bool, on_problem: Callable[[str], None], log: Log) -> None:
        self._folder = folder
        self._store = store
        self._keep = keep
        self._on_problem = on_problem
        self._log = log
        self._waiting: deque[tuple[str, str]] = deque()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._give_up_at: float | None = None
        self._problems: set[str] = set()
        self.failed = 0
        """Logs that are not in the store, and will not be."""

    def put(self, task_id: str, attempt: int) -> str | None:
        """Have the log of an attempt that has ended uploaded; returns where it will be, None where it is empty."""
        from cloud_tasks.worker.task_process.result_store import address_of, log_name

        path = log_path(self._folder, task_id, attempt)
        try:
            if os.stat(path).st_size == 0:
                self._remove(path)
                return None
        except OSError:
            return None
        address = address_of(self._store, log_name(task_id, attempt))
        with self._changed:
            if len(self._waiting) >= _MOST_WAITING:
                self.failed += 1
                return None
            self._waiting.append((path, address))
            if len(self._threads) < _THREADS and len(self._waiting) > len(self._threads):
                thread = threading.Thread(target=self._serve, name="worker-logs", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()
        return address

    def close(self, patience: float) -> None:
        """Upload what waits, for so many seconds at most."""
        with self._changed:
            self._give_up_at = time.monotonic() + patience
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, self._give_up_at - time.monotonic()) + 1.0)
        left = len(self._waiting)
        if self.failed + left:
            self._log.warning(f"{self.failed + left} logs of tasks were not uploaded to {self._store}")

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and self._give_up_at is None:
                    self._changed.wait()
                if not self._waiting or self._is_too_late():
                    return
                path, address = self._waiting.popleft()
            self._upload(path, address)

    def _is_too_late(self) -> bool:
        return self._give_up_at is not None and time.monotonic() > self._give_up_at

    def _upload(self, path: str, address: str) -> None:
        from cloud_tasks.worker.task_process.result_store import store_file

        pause, problem = _FIRST_PAUSE, ""
        for attempt in range(_ATTEMPTS):
            try:
                with open(path, "rb") as content:
                    store_file(address, content)
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                self._remove(path)
                return
            if self._is_too_late() or attempt == _ATTEMPTS - 1:
                break
            with self._changed:
                if self._give_up_at is None:
                    self._changed.wait(pause)
            pause *= 2
        self._failed(path, problem)

    def _failed(self, path: str, problem: str) -> None:
        self._remove(path)
        with self._changed:
            self.failed += 1
            kind = problem.partition(":")[0]
            is_new = kind not in self._problems
            self._problems.add(kind)
        if is_new:
            self._on_problem(f"a task's log was not uploaded: {problem}")

    def _remove(self, path: str) -> None:
        if not self._keep:
            try:
                os.unlink(path)
            except OSError:
                return
