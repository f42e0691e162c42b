"""Many calls at once: Storage Queue has none for several messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["Threads"]

_T = TypeVar("_T")
_R = TypeVar("_R")


class Threads:
    """A pool that starts when the first piece of work has company."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self.count = count

    def map(self, work: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
        """Do ``work`` for each, in the caller's thread where there is but one. Raises what the first of them raised."""
        chosen = list(items)
        if len(chosen) < 2:
            return [work(item) for item in chosen]
        return list(self._pool.map(work, chosen))

    def close(self) -> None:
        """Work that has not begun is dropped."""
        self._pool.shutdown(cancel_futures=True)
