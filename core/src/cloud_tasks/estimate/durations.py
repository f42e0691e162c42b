"""Distribution of task durations, from mean and deviation or from the durations of an earlier job."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from itertools import accumulate

import attrs

__all__ = ["TaskDurations"]

_SAMPLE_SIZE = 4096
_DEFAULT_DEVIATION = 0.8
"""Share of the mean; most tasks are then a little shorter than the mean, a few much longer."""


@attrs.frozen(kw_only=True)
class TaskDurations:
    """Distribution of the seconds that one task takes."""

    mean: float
    deviation: float
    values: tuple[float, ...] = ()
    """Measured durations; empty for a log-normal distribution."""
    weights: tuple[float, ...] = ()
    """Number of tasks of each measured duration."""

    @classmethod
    def about(cls, mean: float, deviation: float | None = None) -> TaskDurations:
        """Return a log-normal distribution: durations are positive, a few are long.

        Args:
            deviation: Standard deviation in seconds; None: 80% of the mean.
        """
        return cls(mean=mean, deviation=_DEFAULT_DEVIATION * mean if deviation is None else deviation)

    @classmethod
    def measured(cls, counts: Mapping[float, int]) -> TaskDurations:
        """Return the distribution of an earlier job, from the number of its tasks by duration in seconds."""
        total = sum(counts.values())
        mean = math.fsum(value * count for value, count in counts.items()) / total
        square = math.fsum((value - mean) ** 2 * count for value, count in counts.items()) / total
        return cls(mean=mean, deviation=math.sqrt(square), values=tuple(counts), weights=tuple(counts.values()))

    def draws(self, rng: random.Random, batch_size: int = 1) -> Callable[[], float]:
        """Return a function that draws the duration of one task, or of ``batch_size`` tasks one after the other."""
        if batch_size > 1:
            # The sum of many durations has the mean and the variance of one, times their number.
            mean, variance = self.mean * batch_size, self.deviation**2 * batch_size
            return _normal(rng, mean, math.sqrt(variance))
        if self.values:
            return _sampled(rng, self.values, self.weights)
        return _log_normal(rng, self.mean, self.deviation)


def _sampled(rng: random.Random, values: tuple[float, ...], weights: tuple[float, ...]) -> Callable[[], float]:
    sums = list(accumulate(weights))
    drawn: list[float] = []

    def draw() -> float:
        if not drawn:
            drawn.extend(rng.choices(values, cum_weights=sums, k=_SAMPLE_SIZE))
        return drawn.pop()

    return draw


def _log_normal(rng: random.Random, mean: float, deviation: float) -> Callable[[], float]:
    variance = math.log1p((deviation / mean) ** 2)
    mu, sigma = math.log(mean) - variance / 2, math.sqrt(variance)
    gauss, exp = rng.gauss, math.exp
    return lambda: exp(gauss(mu, sigma))


def _normal(rng: random.Random, mean: float, deviation: float) -> Callable[[], float]:
    gauss, minimum = rng.gauss, mean / 100
    return lambda: max(gauss(mean, deviation), minimum)
