"""Finished attempts over time, updated attempt by attempt, in a bounded number of buckets.

Invariant, with a test: at most `MAX_BUCKETS` buckets are kept for any number of attempts over any time, and their
counts add up to the number of attempts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

__all__ = ["KINDS", "MAX_BUCKETS", "AttemptBuckets"]

MAX_BUCKETS = 240
"""Maximum number of buckets."""

KINDS = ("completed", "failed", "lost")
"""Order of the counts of a bucket."""


class AttemptBuckets:
    """Buckets of equal width, which doubles when there are too many. Times are Unix seconds."""

    def __init__(self) -> None:
        self.width = 1.0
        """Width of a bucket in seconds."""
        self._counts: dict[int, list[int]] = {}
        self._busy: dict[int, defaultdict[int, float]] = {}
        self._first: float = math.inf
        self._last: float = -math.inf

    def add(self, kind: int, host: int, begin: float, end: float) -> None:
        """Add an attempt that ran on a host from ``begin`` to ``end``; ``kind`` is an index into `KINDS`."""
        # Hot path: called once per attempt of a long history.
        width = self.width
        first, last = int(begin // width), int(end // width)
        if first < self._first or last > self._last:
            self._extend(first, last)
            width = self.width
            first, last = int(begin // width), int(end // width)
        counts = self._counts.get(last)
        if counts is None:
            counts = self._counts[last] = [0] * len(KINDS)
        counts[kind] += 1
        lane = self._busy.get(host)
        if lane is None:
            lane = self._busy[host] = defaultdict(float)
        if first == last:
            lane[first] += end - begin
            return
        lane[first] += (first + 1) * width - begin
        for index in range(first + 1, last):
            lane[index] += width
        lane[last] += end - last * width

    def _extend(self, first: int, last: int) -> None:
        """Extend the range of buckets to include these indexes."""
        self._first = int(min(self._first, first))
        self._last = int(max(self._last, last))
        while self._last - self._first >= MAX_BUCKETS:
            self._double()

    def _double(self) -> None:
        self.width *= 2
        self._first //= 2
        self._last //= 2
        merged: dict[int, list[int]] = {}
        for index, counts in self._counts.items():
            known = merged.get(index // 2)
            merged[index // 2] = counts if known is None else [a + b for a, b in zip(known, counts, strict=True)]
        self._counts = merged
        for host, lane in self._busy.items():
            wider: defaultdict[int, float] = defaultdict(float)
            for index, seconds in lane.items():
                wider[index // 2] += seconds
            self._busy[host] = wider

    def counts(self) -> Sequence[tuple[float, Sequence[int]]]:
        """Return the start and the counts of each non-empty bucket, in order."""
        return [(index * self.width, self._counts[index]) for index in sorted(self._counts)]

    def utilization(self, host: int, slots: int | None) -> Sequence[tuple[float, float]]:
        """Return the start of each bucket in which this host worked, and the share of its slots in use, from 0 to 1.

        Args:
            slots: Number of slots of the host; None for the maximum number in use.
        """
        lane = self._busy.get(host)
        if not lane:
            return ()
        capacity = self.width * max(slots, 1) if slots is not None else max(*lane.values(), self.width)
        return [(index * self.width, min(lane[index] / capacity, 1.0)) for index in sorted(lane) if lane[index]]
