"""Figures of a job: what its attempts came to, and how it stands."""

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
"""Seconds."""
_KNOWN = 50_000
"""Latest events that are known, so that one that comes again is not counted again."""
_Row = tuple[float | None, dict[str, str]]


class Metrics:
    """The instruments, in a provider of their own.

    Args:
        dropped: How many spans were dropped until now.
    """

    def __init__(self, reader: MetricReader, resource: Resource, *, job_id: str, dropped: Callable[[], int]) -> None:
        self._job = {"cloud_tasks.job.id": job_id}
        self._progress: JobProgress | None = None
        self._recent: OrderedDict[str, None] = OrderedDict()
        self.provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        meter = self.provider.get_meter("cloud_tasks_otel")
        self._attempts = meter.create_counter("cloud_tasks.attempts", "{attempt}", "Attempts that ended")
        self._durations = meter.create_histogram(
            "cloud_tasks.attempt.duration", "s", "How long attempts took", explicit_bucket_boundaries_advisory=_BUCKETS
        )
        self._terminations = meter.create_counter(
            "cloud_tasks.spot_terminations", "{instance}", "Instances that were told that they would be taken away"
        )
        for name, unit, help_, rows in (
            ("cloud_tasks.tasks", "{task}", "Tasks by status", _tasks),
            ("cloud_tasks.instances", "{instance}", "Instances by type", _instances),
            ("cloud_tasks.price", "USD/h", "Price of the instances", _price),
            ("cloud_tasks.cost", "USD", "Cost of the job until now", _cost),
            ("cloud_tasks.cost.expected", "USD", "Cost of the whole job, should it go on as it does", _expected),
            ("cloud_tasks.cost.limit", "USD", "Most that the job may cost", _limit),
        ):
            meter.create_observable_gauge(name, [self._look(rows)], unit, help_)
        meter.create_observable_counter(
            "cloud_tasks.spans.dropped",
            [lambda _: [Observation(dropped(), self._job)]],
            "{span}",
            "Spans that were not sent",
        )

    def take(self, event: Event) -> None:
        """Count an event, once."""
        if event.event_id in self._recent:
            return
        self._recent[event.event_id] = None
        if len(self._recent) > _KNOWN:
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
        """Know how the job stands; the reader asks when it likes."""
        self._progress = progress

    def _look(
        self, rows: Callable[[JobProgress], Iterable[_Row]]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            progress = self._progress
            if progress is None:
                return []
            return [Observation(value, {**self._job, **more}) for value, more in rows(progress) if value is not None]

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
