"""The maintained counters: what a transaction adds to them, and how they are read."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter

from cloud_tasks.store.db.quantile_sketch import bucket_of

__all__ = [
    "CLOCK_OFFSET",
    "EARLIER_RUN",
    "FINISHED_BEFORE",
    "RECENT_ENDS",
    "RECENT_SECONDS",
    "RUN_ALIVE",
    "RUN_ENDED",
    "RUN_STARTED",
    "CounterUpdates",
    "add_to_counters",
    "read_counter",
    "read_counters",
    "recount",
]

RUN_STARTED = "run:started"
"""Unix seconds at which the current run started."""
RUN_ALIVE = "run:alive"
"""Unix seconds at which a controller last recorded that it is at work."""
RUN_ENDED = "run:ended"
"""Unix seconds at which the latest run ended in order; absent while it runs, and after a crash."""
RECENT_ENDS = "recent:"
"""Prefix of the numbers of tasks that finished in the latest intervals of the current run, by their events' times."""
RECENT_SECONDS = 30
"""Length of such an interval."""
_RECENT_KEPT = 240
FINISHED_BEFORE = "run:finished_before"
"""Tasks that had finished by then."""
EARLIER_RUN = "earlier_run:"
"""Prefix of the ids of runs whose database this one replaced."""
CLOCK_OFFSET = "clock:"
"""Prefix of the identity of a boot of the machine, on which the job's clock is this many seconds ahead of its ticks."""

_ADD = (
    "INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"
)
_SET = "INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


def read_counters(connection: sqlite3.Connection) -> dict[str, float]:
    """Return every counter by name; a counter that was never written is absent."""
    return dict(connection.execute("SELECT name, value FROM counters WHERE typeof(value) IN ('integer', 'real')"))


def read_counter(connection: sqlite3.Connection, name: str, default: float = 0) -> float:
    """Return one counter, or the default if it was never written."""
    (value,) = connection.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone() or (default,)
    return float(value)


def add_to_counters(connection: sqlite3.Connection, amounts: dict[str, int]) -> None:
    """Add each amount to its counter."""
    connection.executemany(_ADD, [(name, amount) for name, amount in amounts.items() if amount])


def recount(connection: sqlite3.Connection) -> None:
    """Set the numbers of tasks, in total and by status, to those of the table of tasks."""
    connection.execute("DELETE FROM counters WHERE name = 'total' OR (name >= 'status:' AND name < 'status;')")
    connection.execute("INSERT INTO counters SELECT 'status:' || status, count(*) FROM tasks GROUP BY status")
    connection.execute("INSERT INTO counters SELECT 'total', count(*) FROM tasks")


_FORGET_RECENT = f"""
DELETE FROM counters WHERE name > '{RECENT_ENDS}' AND name < '{RECENT_ENDS}a' AND name NOT IN
    (SELECT name FROM counters WHERE name > '{RECENT_ENDS}' AND name < '{RECENT_ENDS}a' ORDER BY name DESC LIMIT ?)
"""


class CounterUpdates:
    """The changes of one batch to the counters, collected in memory.

    Names of counters: ``status:<code>``, ``event:<code>``, ``total``, ``attempts``, ``losses``, ``retries``,
    ``duplicates``, ``late``, ``unknown_task``, ``set_aside`` (dead-lettered messages), ``run:started``, ``run:alive``,
    ``run:ended``, ``run:finished_before``, ``recent:<interval>``, ``earlier_run:<id>``, ``clock:<boot>``,
    ``earlier_attempts``, ``withdrawn``, ``first_start``, ``last_end``,
    ``elapsed:count``, ``elapsed:mean``, ``elapsed:m2``, ``elapsed:min``, ``elapsed:max``.
    """

    def __init__(self) -> None:
        self._sums: Counter[str] = Counter()
        self._first_start: float | None = None
        self._last_end: float | None = None
        self._moves: Counter[tuple[int, int]] = Counter()
        self._elapsed: list[float] = []

    def add(self, name: str, amount: int) -> None:
        """Add an amount to a counter."""
        if amount:
            self._sums[name] += amount

    def moved(self, before: int, after: int) -> None:
        """Count a task that moved from one status code to another."""
        self._moves[before, after] += 1

    def started(self, at: float) -> None:
        """Count an attempt that started at this Unix time."""
        self._sums["attempts"] += 1
        if self._first_start is None or at < self._first_start:
            self._first_start = at

    def recent_end(self, at: float) -> None:
        """Count a task of the current run that finished at this Unix time."""
        self._sums[f"{RECENT_ENDS}{int(at // RECENT_SECONDS):012}"] += 1

    def last_end(self, at: float) -> None:
        """Record that a task reached a terminal state at this Unix time."""
        if self._last_end is None or at > self._last_end:
            self._last_end = at

    def elapsed(self, seconds: float) -> None:
        """Add the elapsed time of a completed task."""
        self._elapsed.append(seconds)

    def write(self, connection: sqlite3.Connection) -> None:
        """Add the collected changes to the counters and to the quantile sketch."""
        for (before, after), count in self._moves.items():
            self._sums[f"status:{before}"] -= count
            self._sums[f"status:{after}"] += count
        add_to_counters(connection, self._sums)
        if self._first_start is None and self._last_end is None:
            return
        connection.execute(_FORGET_RECENT, (_RECENT_KEPT,))
        known = read_counters(connection)
        values: dict[str, float] = {}
        if self._first_start is not None and self._first_start < known.get("first_start", math.inf):
            values["first_start"] = self._first_start
        if self._last_end is not None and self._last_end > known.get("last_end", -math.inf):
            values["last_end"] = self._last_end
        if self._elapsed:
            values.update(_merged(known, self._elapsed))
            self._write_sketch(connection)
        connection.executemany(_SET, list(values.items()))

    def _write_sketch(self, connection: sqlite3.Connection) -> None:
        buckets = Counter(bucket_of(seconds) for seconds in self._elapsed)
        connection.executemany(
            "INSERT INTO elapsed_sketch (bucket, count) VALUES (?, ?) "
            "ON CONFLICT (bucket) DO UPDATE SET count = count + excluded.count",
            list(buckets.items()),
        )


def _merged(known: dict[str, float], values: list[float]) -> dict[str, float]:
    """Return count, mean, sum of squared deviations and range of the known and new values (Chan's formula)."""
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
