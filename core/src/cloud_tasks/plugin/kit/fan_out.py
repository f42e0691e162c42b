"""Bounded parallel calls of a blocking library.

Invariants, each with a test:

1. Results are in the order of the items; at most the given number of calls runs at a time.
2. The failure of one call does not affect the others.
3. A forked process uses threads of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cloud_tasks.errors import ProviderError

__all__ = ["FanOut"]

T = TypeVar("T")
R = TypeVar("R")


class FanOut:
    """A pool of threads, started when they are needed; a single item runs in the caller's thread. Thread-safe.

    Args:
        threads: Maximum number of parallel calls, besides those in the callers' threads.
        name: Prefix of the threads' names.
    """

    def __init__(self, threads: int, name: str) -> None:
        self.threads = threads
        self._name = name
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        self._closed = False

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Return the results. After all calls have ended, raise the error of the first item that failed."""
        outcomes = self._run(work, items)
        for outcome in outcomes:
            if isinstance(outcome, _Raised):
                raise outcome.error
        return [outcome for outcome in outcomes if not isinstance(outcome, _Raised)]

    def outcomes(self, work: Callable[[T], R], items: Iterable[T]) -> list[R | ProviderError]:
        """Return the result of each item, or the `ProviderError` that it raised; raise another error as `map` does."""
        found: list[R | ProviderError] = []
        for outcome in self._run(work, items):
            if not isinstance(outcome, _Raised):
                found.append(outcome)
            elif isinstance(outcome.error, ProviderError):
                found.append(outcome.error)
            else:
                raise outcome.error
        return found

    def close(self) -> None:
        """Stop the threads; calls that have not started are cancelled, and running ones are waited for."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None and self._process == os.getpid():
            pool.shutdown(cancel_futures=True)

    def _run(self, work: Callable[[T], R], items: Iterable[T]) -> list[R | _Raised]:
        def run(item: T) -> R | _Raised:
            try:
                return work(item)
            except Exception as error:
                return _Raised(error)

        chosen = list(items)
        if len(chosen) < 2:
            return [run(item) for item in chosen]
        return list(self._own_pool().map(run, chosen))

    def _own_pool(self) -> ThreadPoolExecutor:
        if self._process != os.getpid():
            # The parent's threads do not exist here, and one of them may have held the lock.
            self._lock, self._pool, self._process = threading.Lock(), None, os.getpid()
        with self._lock:
            if self._closed:
                raise RuntimeError(f"{self._name}: closed")
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix=self._name)
            return self._pool


class _Raised:
    """An error as a result."""

    def __init__(self, error: Exception) -> None:
        self.error = error
