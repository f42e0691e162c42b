"""Concurrent calls: Storage Queue has no batch calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["Threads"]

_T = TypeVar("_T")
_R = TypeVar("_R")


class Threads:
    """A thread pool; a single item runs in the caller's thread."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self.count = count

    def map(self, work: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
        """Return ``work`` of each item; raise the error of the first item that failed."""
        chosen = list(items)
        if len(chosen) < 2:
            return [work(item) for item in chosen]
        return list(self._pool.map(work, chosen))

    def close(self) -> None:
        """Stop the pool; work that has not started is dropped."""
        self._pool.shutdown(cancel_futures=True)
