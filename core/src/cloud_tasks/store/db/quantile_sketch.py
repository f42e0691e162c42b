"""Percentiles of elapsed times without keeping or scanning them.

Values are counted in buckets whose bounds grow by 2 % each, so any percentile is known within 1 % of its value. A job
has about a thousand buckets at most (a millisecond to a year), and two sketches are added by adding their counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

__all__ = ["RELATIVE_ERROR", "bucket_of", "percentiles", "percentiles_of_sketch", "value_of"]

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


def percentiles_of_sketch(counts: Mapping[int, int], fractions: Sequence[float]) -> list[float]:
    """For each fraction the value below which so many of the counted values lie, within `RELATIVE_ERROR`.

    Args:
        fractions: Between 0 and 1, in ascending order.

    Raises:
        ValueError: Nothing was counted.
    """
    total = sum(counts.values())
    if total == 0:
        raise ValueError("a percentile of nothing")
    ranks = [fraction * (total - 1) for fraction in fractions]
    found: list[float] = []
    passed = 0
    for bucket in sorted(counts):
        passed += counts[bucket]
        while len(found) < len(ranks) and passed > ranks[len(found)]:
            found.append(value_of(bucket))
        if len(found) == len(ranks):
            break
    return found


def percentiles(ordered: Iterable[float], fractions: Sequence[float], count: int) -> list[float]:
    """The exact percentiles of ``count`` values in ascending order, linear between neighbours; reads no further.

    Args:
        fractions: Between 0 and 1, in ascending order.

    Raises:
        ValueError: There are no values.
    """
    if count == 0:
        raise ValueError("a percentile of nothing")
    ranks = [fraction * (count - 1) for fraction in fractions]
    wanted = {index for rank in ranks for index in (math.floor(rank), math.ceil(rank))}
    last = max(wanted)
    found = {index: value for index, value in enumerate(islice(ordered, last + 1)) if index in wanted}
    lows = [found[math.floor(rank)] for rank in ranks]
    return [low + (found[math.ceil(rank)] - low) * (rank % 1) for low, rank in zip(lows, ranks, strict=True)]
