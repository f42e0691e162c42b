"""How long tasks take: a distribution to draw from, given by its mean and deviation or by a job that ran."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from itertools import accumulate

import attrs

__all__ = ["TaskDurations"]

_AT_A_TIME = 4096
_USUAL_DEVIATION = 0.8
"""Of the mean, where nothing is known: most tasks a little shorter, a few much longer."""


@attrs.frozen(kw_only=True)
class TaskDurations:
    """Seconds that one task takes."""

    mean: float
    deviation: float
    values: tuple[float, ...] = ()
    """What was measured; empty: a log-normal distribution of this mean and deviation."""
    weights: tuple[float, ...] = ()
    """How often each."""

    @classmethod
    def about(cls, mean: float, deviation: float | None = None) -> TaskDurations:
        """A log-normal distribution: times are above zero, and some are long."""
        return cls(mean=mean, deviation=_USUAL_DEVIATION * mean if deviation is None else deviation)

    @classmethod
    def measured(cls, counts: Mapping[float, int]) -> TaskDurations:
        """The times of a job that ran: seconds to how many tasks took them."""
        total = sum(counts.values())
        mean = math.fsum(value * count for value, count in counts.items()) / total
        square = math.fsum((value - mean) ** 2 * count for value, count in counts.items()) / total
        return cls(mean=mean, deviation=math.sqrt(square), values=tuple(counts), weights=tuple(counts.values()))

    def draws(self, rng: random.Random, batch_size: int = 1) -> Callable[[], float]:
        """A function that draws the time of one task, or of so many tasks one after the other."""
        if batch_size > 1:
            # The sum of many has the mean and the variance of one, times their number.
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
            drawn.extend(rng.choices(values, cum_weights=sums, k=_AT_A_TIME))
        return drawn.pop()

    return draw


def _log_normal(rng: random.Random, mean: float, deviation: float) -> Callable[[], float]:
    variance = math.log1p((deviation / mean) ** 2)
    mu, sigma = math.log(mean) - variance / 2, math.sqrt(variance)
    gauss, exp = rng.gauss, math.exp
    return lambda: exp(gauss(mu, sigma))


def _normal(rng: random.Random, mean: float, deviation: float) -> Callable[[], float]:
    gauss, least = rng.gauss, mean / 100
    return lambda: max(gauss(mean, deviation), least)
