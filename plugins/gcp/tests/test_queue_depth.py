"""The depth comes from Cloud Monitoring where that can be asked, and is unknown where it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from cloud_wire import Answer, Request, Wire

from cloud_tasks_gcp.queue.monitoring import read_depth
from cloud_tasks_gcp.settings import GcpSettings

METRIC = "pubsub.googleapis.com/subscription/"


class Monitoring:
    """Answers with the series that it was given."""

    def __init__(self, wire: Wire) -> None:
        self.url = wire.url
        self.answer: Any = {}
        self.filters: list[str] = []
        wire.route("GET", r"/v3/projects/p/timeSeries", self._list)

    def _list(self, request: Request) -> Any:
        self.filters.append(request.query["filter"])
        datetime.fromisoformat(request.query["interval.startTime"])
        return self.answer

    def has(self, **figures: int) -> None:
        """Set the newest sample of each metric, and an older one behind it."""
        self.answer = {
            "timeSeries": [
                {
                    "metric": {"type": METRIC + name},
                    "points": [
                        {"interval": {"endTime": "2026-01-01T12:03:00Z"}, "value": {"int64Value": str(figure)}},
                        {"interval": {"endTime": "2026-01-01T12:02:00Z"}, "value": {"int64Value": "999"}},
                    ],
                }
                for name, figure in figures.items()
            ]
        }


@pytest.fixture
def monitoring() -> Iterator[Monitoring]:
    with Wire().serving() as wire:
        yield Monitoring(wire)


def settings(monitoring: Monitoring) -> GcpSettings:
    return GcpSettings(project_id="p", monitoring_endpoint=monitoring.url)


def test_the_newest_sample_is_the_depth_and_tells_its_age(monitoring: Monitoring) -> None:
    monitoring.has(num_undelivered_messages=120, num_outstanding_messages=20)
    depth = read_depth(settings(monitoring), "p", "cloud-tasks-addition")
    assert (depth.visible, depth.in_flight, depth.exact) == (100, 20, False)
    assert depth.as_of == datetime(2026, 1, 1, 12, 3, tzinfo=UTC)
    assert 'subscription_id = "cloud-tasks-addition"' in monitoring.filters[0]


def test_without_the_leased_ones_the_backlog_is_shown(monitoring: Monitoring) -> None:
    monitoring.has(num_undelivered_messages=120)
    depth = read_depth(settings(monitoring), "p", "s")
    assert (depth.visible, depth.in_flight) == (120, None)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"timeSeries": [{"metric": {"type": METRIC + "num_undelivered_messages"}, "points": []}]},
        {"timeSeries": [{"metric": {}, "points": [{}]}]},
        {"timeSeries": "nonsense"},
        Answer(status=403, body={"error": {"code": 403, "message": "monitoring.timeSeries.list denied"}}),
        Answer(body=b"no JSON"),
    ],
)
def test_whatever_else_is_answered_the_depth_is_unknown(monitoring: Monitoring, answer: Any) -> None:
    monitoring.answer = answer
    depth = read_depth(settings(monitoring), "p", "s")
    assert (depth.visible, depth.in_flight, depth.exact) == (None, None, False)


def test_monitoring_is_not_asked_about_a_stand_in() -> None:
    depth = read_depth(GcpSettings(project_id="p", pubsub_endpoint="127.0.0.1:1"), "p", "s")
    assert depth.visible is None
