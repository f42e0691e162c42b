"""Queue depth from Cloud Monitoring, unknown when unavailable."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from billing_fake import google_error
from billing_project import one_metric
from fake_server import Answer, FakeServer, Request
from structlog.testing import capture_logs

from cloud_tasks_gcp.queue.monitoring import read_depth
from cloud_tasks_gcp.settings import GcpSettings

METRIC = "pubsub.googleapis.com/subscription/"


class Monitoring:
    """Fake of Cloud Monitoring that returns the configured time series."""

    def __init__(self, server: FakeServer) -> None:
        self.url = server.url
        self.answer: Any = {}
        self.filters: list[str] = []
        server.route("GET", r"/v3/projects/p/timeSeries", self._list)

    def _list(self, request: Request) -> Any:
        datetime.fromisoformat(request.query["interval.startTime"])
        self.filters.append(request.query["filter"])
        series = self.answer.get("timeSeries") if isinstance(self.answer, dict) else None
        return one_metric(request, series) if isinstance(series, list) else self.answer

    def set_samples(self, **figures: int) -> None:
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
    with FakeServer().serving() as server:
        yield Monitoring(server)


def settings(monitoring: Monitoring) -> GcpSettings:
    return GcpSettings(project_id="p", monitoring_endpoint=monitoring.url)


def test_read_depth_returns_newest_sample_with_time(monitoring: Monitoring) -> None:
    monitoring.set_samples(num_undelivered_messages=120, num_outstanding_messages=20)
    depth = read_depth(settings(monitoring), "p", "cloud-tasks-addition")
    assert (depth.visible, depth.in_flight, depth.exact) == (120, None, False)
    assert depth.as_of == datetime(2026, 1, 1, 12, 3, tzinfo=UTC)
    assert 'subscription_id = "cloud-tasks-addition"' in monitoring.filters[0]


def test_read_depth_logs_its_problem_once(monitoring: Monitoring) -> None:
    monitoring.answer = google_error(403, "IAM_PERMISSION_DENIED", f"denied to {uuid4().hex}")
    with capture_logs() as logs:
        for _ in range(2):
            read_depth(settings(monitoring), "p", "s")
    assert [each["log_level"] for each in logs] == ["debug"]
    assert "Cloud Monitoring API" in logs[0]["event"]


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
def test_read_depth_of_invalid_response_is_unknown(monitoring: Monitoring, answer: Any) -> None:
    monitoring.answer = answer
    depth = read_depth(settings(monitoring), "p", "s")
    assert (depth.visible, depth.in_flight, depth.exact) == (None, None, False)


def test_read_depth_does_not_query_for_emulator() -> None:
    depth = read_depth(GcpSettings(project_id="p", pubsub_endpoint="127.0.0.1:1"), "p", "s")
    assert depth.visible is None
