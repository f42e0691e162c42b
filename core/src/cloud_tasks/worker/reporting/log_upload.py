"""Upload of task logs to a store.

Invariants, each with a test:

1. The event of an attempt has the address of its log. No task waits for the upload, and no task fails with it.
2. Failed uploads are reported with their number and reason.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable

from cloud_tasks.sanitize import clean_text
from cloud_tasks.worker.common.formatting import counted
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.task_process.output_capture import log_path

__all__ = ["LogUploader"]

_THREADS = 4
_MAX_WAITING = 20_000
_MAX_ATTEMPTS = 4
_MIN_BACKOFF = 0.5
_PROBLEM_LENGTH = 1000


class LogUploader:
    """Uploads logs from up to four threads, with up to four attempts each.

    Args:
        folder: Folder of the logs.
        store: A folder or URL.
        keep: Whether to keep a log after its upload.
        on_problem: Called from a thread with the reason of a failure; once for each kind of error.
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
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._problems: set[str] = set()
        self.failed = 0
        """Number of logs that could not be uploaded."""

    def put(self, task_id: str, attempt: int) -> str | None:
        """Queue the log of a finished attempt for upload; return its address, None if it is empty or not queued."""
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
            if len(self._waiting) >= _MAX_WAITING:
                self.failed += 1
                return None
            self._waiting.append((path, address))
            if len(self._threads) < _THREADS and len(self._waiting) > len(self._threads):
                thread = threading.Thread(target=self._serve, name="worker-logs", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()
        return address

    def close(self, timeout: float) -> None:
        """Upload the queued logs, for at most so many seconds, and end the threads."""
        with self._changed:
            self._deadline = time.monotonic() + timeout
            self._closing.set()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, self._deadline - time.monotonic()) + 1.0)
        failed = self.failed + len(self._waiting)
        if failed:
            self._log.warning(f"{counted(failed, 'task log')} not uploaded to {self._store}")

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing.is_set():
                    self._changed.wait()
                if not self._waiting or self._is_too_late():
                    return
                path, address = self._waiting.popleft()
            try:
                self._upload(path, address)
            except (Exception, SystemExit) as error:
                self._give_up(path, f"{type(error).__name__}: {error}")

    def _is_too_late(self) -> bool:
        return time.monotonic() > self._deadline

    def _upload(self, path: str, address: str) -> None:
        from cloud_tasks.worker.task_process.result_store import store_file

        backoff, problem = _MIN_BACKOFF, ""
        for attempt in range(_MAX_ATTEMPTS):
            try:
                with open(path, "rb") as content:
                    store_file(address, content)
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                self._remove(path)
                return
            if self._is_too_late() or attempt == _MAX_ATTEMPTS - 1:
                break
            # Only `close` ends the pause; other logs do not.
            self._closing.wait(backoff)
            backoff *= 2
        self._give_up(path, problem)

    def _give_up(self, path: str, problem: str) -> None:
        self._remove(path)
        with self._changed:
            self.failed += 1
            kind = problem.partition(":")[0]
            is_new = kind not in self._problems
            self._problems.add(kind)
        if is_new:
            self._on_problem(clean_text(f"cannot upload the log of a task: {problem}", _PROBLEM_LENGTH))

    def _remove(self, path: str) -> None:
        if not self._keep:
            try:
                os.unlink(path)
            except OSError:
                return
