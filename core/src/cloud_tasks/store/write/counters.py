"""The maintained figures: what a transaction adds to them, and how they are read."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter

from cloud_tasks.store.db.quantile_sketch import bucket_of

__all__ = ["FINISHED_BEFORE", "RUN_STARTED", "CounterUpdates", "read_counters"]

RUN_STARTED = "run:started"
"""Unix seconds at which the current run began."""
FINISHED_BEFORE = "run:finished_before"
"""Tasks that had ended by then."""

_ADD = (
    "INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"
)
_SET = "INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


def read_counters(connection: sqlite3.Connection) -> dict[str, float]:
    """Every counter by name; one that was never touched is not there."""
    return dict(connection.execute("SELECT name, value FROM counters"))


class CounterUpdates:
    """What one transaction does to the counters; nothing is written before `write`.

    Names: ``status:<code>``, ``event:<code>``, ``total``, ``attempts``, ``losses``, ``retries``, ``duplicates``,
    ``late``, ``unknown_task``, ``set_aside``, ``run:{started,finished_before}``, ``first_start``,
    ``last_end``, ``elapsed:{count,mean,m2,min,max}``.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._sums: Counter[str] = Counter()
        self._first_start: float | None = None
        self._last_end: float | None = None
        self._moves: Counter[tuple[int, int]] = Counter()
        self._elapsed: list[float] = []

    def add(self, name: str, amount: int) -> None:
        if amount:
            self._sums[name] += amount

    def moved(self, before: int, after: int) -> None:
        """A task went from one status to another."""
        self._moves[before, after] += 1

    def started(self, at: float) -> None:
        """An attempt began."""
        self._sums["attempts"] += 1
        if self._first_start is None or at < self._first_start:
            self._first_start = at

    def last_end(self, at: float) -> None:
        """A task ended for good."""
        if self._last_end is None or at > self._last_end:
            self._last_end = at

    def elapsed(self, seconds: float) -> None:
        """A task completed after so long."""
        self._elapsed.append(seconds)

    def write(self) -> None:
        """Add it all to the counters."""
        for (before, after), count in self._moves.items():
            self._sums[f"status:{before}"] -= count
            self._sums[f"status:{after}"] += count
        self._connection.executemany(_ADD, [(name, amount) for name, amount in self._sums.items() if amount])
        if self._first_start is None and self._last_end is None:
            return
        known = read_counters(self._connection)
        values: dict[str, float] = {}
        if self._first_start is not None and self._first_start < known.get("first_start", math.inf):
            values["first_start"] = self._first_start
        if self._last_end is not None and self._last_end > known.get("last_end", -math.inf):
            values["last_end"] = self._last_end
        if self._elapsed:
            values.update(_merged(known, self._elapsed))
            self._write_sketch()
        self._connection.executemany(_SET, list(values.items()))

    def _write_sketch(self) -> None:
        buckets = Counter(bucket_of(seconds) for seconds in self._elapsed)
        self._connection.executemany(
            "INSERT INTO elapsed_sketch (bucket, count) VALUES (?, ?) "
            "ON CONFLICT (bucket) DO UPDATE SET count = count + excluded.count",
            list(buckets.items()),
        )


def _merged(known: dict[str, float], values: list[float]) -> dict[str, float]:
    """Count, mean, sum of squared deviations and range of the old and the new values together (Chan's formula)."""
    old_count, old_mean, old_m2 = (known.get(f"elapsed:{name}", 0.0) for name in ("count", "mean", "m2"))
    new_count = len(values)
    new_mean = math.fsum(values) / new_count
    new_m2 = math.fsum((value - new_mean) ** 2 for value in values)
    count = old_count + new_count
    shift = new_mean - old_mean
    return {
        "elapsed:count": count,
        "elapsed:mean": old_mean + shift * new_count / count,
        "elapsed:m2": old_m2 + new_m2 + shift * shift * old_count * new_count / count,
        "elapsed:min": min(known.get("elapsed:min", math.inf), *values),
        "elapsed:max": max(known.get("elapsed:max", -math.inf), *values),
    }
