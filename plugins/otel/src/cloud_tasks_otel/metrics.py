"""Metrics of a job: outcomes of attempts, and progress."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource

from cloud_tasks.model import Event, EventType, JobProgress
from cloud_tasks_otel.traces import OUTCOMES

__all__ = ["Metrics"]

_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400)
"""Histogram boundaries in seconds."""
_MAX_RECENT = 50_000
"""Number of latest event ids kept to ignore duplicates."""
_Row = tuple[float | None, dict[str, str]]


class Metrics:
    """The instruments, with a separate meter provider.

    Args:
        dropped: Returns the number of spans dropped so far.
    """

    def __init__(self, reader: MetricReader, resource: Resource, *, job_id: str, dropped: Callable[[], int]) -> None:
        self._job = {"cloud_tasks.job.id": job_id}
        self._progress: JobProgress | None = None
        self._recent: OrderedDict[str, None] = OrderedDict()
        self.provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        meter = self.provider.get_meter("cloud_tasks_otel")
        self._attempts = meter.create_counter("cloud_tasks.attempts", "{attempt}", "Finished attempts")
        self._durations = meter.create_histogram(
            "cloud_tasks.attempt.duration", "s", "Duration of attempts", explicit_bucket_boundaries_advisory=_BUCKETS
        )
        self._terminations = meter.create_counter(
            "cloud_tasks.spot_terminations", "{instance}", "Spot interruption notices"
        )
        for name, unit, help_, rows in (
            ("cloud_tasks.tasks", "{task}", "Tasks by status", _tasks),
            ("cloud_tasks.instances", "{instance}", "Instances by type", _instances),
            ("cloud_tasks.price", "USD/h", "Price of the instances", _price),
            ("cloud_tasks.cost", "USD", "Accrued cost of the job", _cost),
            ("cloud_tasks.cost.expected", "USD", "Projected total cost of the job", _expected),
            ("cloud_tasks.cost.limit", "USD", "Limit on the total cost of the job", _limit),
        ):
            meter.create_observable_gauge(name, [self._observer(rows)], unit, help_)
        meter.create_observable_counter(
            "cloud_tasks.spans.dropped",
            [lambda _: [Observation(dropped(), self._job)]],
            "{span}",
            "Spans that were not delivered",
        )

    def add(self, event: Event) -> None:
        """Count an event, ignoring duplicates."""
        if event.event_id in self._recent:
            return
        self._recent[event.event_id] = None
        if len(self._recent) > _MAX_RECENT:
            self._recent.popitem(last=False)
        if event.event_type is EventType.SPOT_TERMINATION:
            self._terminations.add(1, self._job)
        outcome = OUTCOMES.get(event.event_type)
        if outcome is None:
            return
        self._attempts.add(1, {**self._job, "outcome": outcome, "retry": event.retry is True})
        if event.elapsed_time is not None and event.elapsed_time >= 0:
            self._durations.record(event.elapsed_time, {**self._job, "outcome": outcome})

    def progress(self, progress: JobProgress) -> None:
        """Store the latest progress, which the reader collects at its interval."""
        self._progress = progress

    def _observer(
        self, rows: Callable[[JobProgress], Iterable[_Row]]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            progress = self._progress
            if progress is None:
                return []
            return [
                Observation(value, {**self._job, **labels}) for value, labels in rows(progress) if value is not None
            ]

        return observe


def _tasks(progress: JobProgress) -> Iterable[_Row]:
    return [(count, {"status": status.value}) for status, count in progress.counts.items()]


def _instances(progress: JobProgress) -> Iterable[_Row]:
    return [(count, {"instance_type": name}) for name, count in progress.instances.items()] or [(0, {})]


def _price(progress: JobProgress) -> Iterable[_Row]:
    return [(float(progress.price_per_hour.usd), {})]


def _cost(progress: JobProgress) -> Iterable[_Row]:
    return [(float(progress.cost.usd), {})]


def _expected(progress: JobProgress) -> Iterable[_Row]:
    return [(None if progress.expected_cost is None else float(progress.expected_cost.usd), {})]


def _limit(progress: JobProgress) -> Iterable[_Row]:
    return [(None if progress.max_total_cost is None else float(progress.max_total_cost.usd), {})]
