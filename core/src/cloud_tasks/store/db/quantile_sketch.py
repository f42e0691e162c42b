"""Quantile sketch: percentiles of elapsed times without keeping or scanning them.

Values are counted in buckets whose bounds grow by 2% each, so any percentile is known within 1% of its value. A job has
about a thousand buckets at most (1 ms to 1 year). Two sketches are merged by adding their counts.
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
"""Seconds; shorter values count as this."""


def bucket_of(value: float) -> int:
    """Return the bucket that counts ``value``, in seconds."""
    return math.ceil(math.log(max(value, _SMALLEST)) / _LOG_GAMMA)


def value_of(bucket: int) -> float:
    """Return the value of a bucket, in seconds: within `RELATIVE_ERROR` of every value in it."""
    return float(2 * _GAMMA**bucket / (_GAMMA + 1))


def percentiles_of_sketch(counts: Mapping[int, int], fractions: Sequence[float]) -> list[float]:
    """Return a quantile for each fraction, within `RELATIVE_ERROR`.

    Args:
        counts: Numbers of values by bucket.
        fractions: Between 0 and 1, in ascending order.

    Raises:
        ValueError: The sketch is empty.
    """
    total = sum(counts.values())
    if total == 0:
        raise ValueError("no values")
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
    """Return the exact quantile for each fraction, interpolated linearly; read no further than needed.

    Args:
        ordered: The values in ascending order.
        fractions: Between 0 and 1, in ascending order.
        count: Number of values.

    Raises:
        ValueError: There are no values.
    """
    if count == 0:
        raise ValueError("no values")
    ranks = [fraction * (count - 1) for fraction in fractions]
    wanted = {index for rank in ranks for index in (math.floor(rank), math.ceil(rank))}
    last = max(wanted)
    found = {index: value for index, value in enumerate(islice(ordered, last + 1)) if index in wanted}
    lows = [found[math.floor(rank)] for rank in ranks]
    return [low + (found[math.ceil(rank)] - low) * (rank % 1) for low, rank in zip(lows, ranks, strict=True)]
