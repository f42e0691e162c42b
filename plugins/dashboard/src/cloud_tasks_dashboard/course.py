"""How attempts ended over time, kept up to date one attempt at a time, in as many stretches as a picture has room for.

Invariant, with a test: however many attempts are taken, over however long, no more than `STRETCHES` are kept, and their
counts add up to what was taken.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

__all__ = ["KINDS", "STRETCHES", "Course"]

STRETCHES = 240
"""The most stretches of time that are kept."""

KINDS = ("completed", "failed", "lost")
"""What is counted in each, in this order."""


class Course:
    """Stretches of equal length; where they become too many, their length doubles. Times are Unix seconds."""

    def __init__(self) -> None:
        self.width = 1.0
        """Seconds of a stretch."""
        self._counts: dict[int, list[int]] = {}
        self._busy: dict[int, defaultdict[int, float]] = {}
        self._first: float = math.inf
        self._last: float = -math.inf

    def ended(self, kind: int, host: int, begin: float, end: float) -> None:
        """An attempt ended, on which a host had worked since ``begin``; ``kind`` is an index into `KINDS`."""
        # The hot path of the first look at a long history: a million times, once.
        width = self.width
        first, last = int(begin // width), int(end // width)
        if first < self._first or last > self._last:
            self._reach(first, last)
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

    def _reach(self, first: int, last: int) -> None:
        """Have the stretches begin and end there, or sooner and later."""
        self._first = int(min(self._first, first))
        self._last = int(max(self._last, last))
        while self._last - self._first >= STRETCHES:
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

    def steps(self) -> Sequence[tuple[float, Sequence[int]]]:
        """When each stretch began that has anything in it, in order, and its counts."""
        return [(index * self.width, self._counts[index]) for index in sorted(self._counts)]

    def shares(self, host: int, slots: int | None) -> Sequence[tuple[float, float]]:
        """When each stretch began in which this host worked, and how much of its slots was used: 0 to 1.

        Args:
            slots: None: as many as it used at most.
        """
        lane = self._busy.get(host)
        if not lane:
            return ()
        capacity = self.width * max(slots, 1) if slots is not None else max(*lane.values(), self.width)
        return [(index * self.width, min(lane[index] / capacity, 1.0)) for index in sorted(lane) if lane[index]]
