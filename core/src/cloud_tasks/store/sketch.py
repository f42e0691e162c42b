"""Percentiles of elapsed times without keeping or scanning them.

Values are counted in buckets whose bounds grow by 2 % each, so any percentile is known within 1 % of its value. A job
has about a thousand buckets at most (a millisecond to a year), and two sketches are added by adding their counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["RELATIVE_ERROR", "bucket_of", "percentile", "percentile_of_sketch", "value_of"]

RELATIVE_ERROR = 0.01
_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA = math.log(_GAMMA)
_SMALLEST = 1e-6
"""Seconds; anything shorter counts as this."""


def bucket_of(value: float) -> int:
    """The bucket that counts ``value``."""
    return math.ceil(math.log(max(value, _SMALLEST)) / _LOG_GAMMA)


def value_of(bucket: int) -> float:
    """The value that stands for a bucket: within `RELATIVE_ERROR` of everything in it."""
    return float(2 * _GAMMA**bucket / (_GAMMA + 1))


def percentile_of_sketch(counts: Mapping[int, int], fraction: float) -> float:
    """The value below which ``fraction`` of the counted values lie, within `RELATIVE_ERROR`.

    Raises:
        ValueError: Nothing was counted.
    """
    total = sum(counts.values())
    if total == 0:
        raise ValueError("a percentile of nothing")
    rank = fraction * (total - 1)
    passed = 0
    for bucket in sorted(counts):
        passed += counts[bucket]
        if passed > rank:
            return value_of(bucket)
    return value_of(max(counts))


def percentile(ordered: Sequence[float] | Iterable[float], fraction: float, count: int) -> float:
    """The exact percentile of ``count`` values in ascending order, linear between neighbours; reads no further.

    Raises:
        ValueError: There are none.
    """
    if count == 0:
        raise ValueError("a percentile of nothing")
    rank = fraction * (count - 1)
    lower = math.floor(rank)
    below = 0.0
    for index, value in enumerate(ordered):
        if index == lower:
            below = value
            if rank == lower:
                return value
        elif index == lower + 1:
            return below + (value - below) * (rank - lower)
    return below
