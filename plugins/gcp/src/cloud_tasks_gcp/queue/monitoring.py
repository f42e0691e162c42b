"""Queue depth from Cloud Monitoring.

Pub/Sub itself reports no depth. Monitoring samples once a minute and publishes a sample some minutes later ("Google
Cloud metrics": ``pubsub.googleapis.com/subscription/num_undelivered_messages``). Messages that workers have leased
count, too: no metric distinguishes them (``num_outstanding_messages`` is about push subscriptions).

Invariants, each with a test:

1. The result is always a `Depth`; without a valid response its figures are unknown, and the reason is logged once.
2. A figure has the time of its sample.
3. A request has one metric: Monitoring refuses others ("projects.timeSeries.list", filter).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import structlog

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import Depth
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["MONITORING", "backlog_query", "read_depth"]

log = structlog.get_logger()

MONITORING = "monitoring.googleapis.com"
_WINDOW = timedelta(minutes=15)
"""Maximum age of a sample."""


def read_depth(settings: GcpSettings, project: str, subscription_id: str) -> Depth:
    """Return the newest sample. Never raise on an error of Monitoring."""
    now = datetime.now(UTC)
    unknown = Depth(visible=None, in_flight=None, exact=False, as_of=now)
    if settings.pubsub_endpoint and not settings.monitoring_endpoint:
        # Monitoring has no data on the emulator's messages.
        return unknown
    try:
        return _depth(_query(settings, project, subscription_id, now)) or unknown
    except (ProviderError, ValueError, LookupError, TypeError, AttributeError) as error:
        _log_once(str(error) if isinstance(error, ProviderError) else f"invalid response ({type(error).__name__})")
        return unknown


def backlog_query(subscription_id: str, now: datetime) -> dict[str, str]:
    """Return the parameters of ``timeSeries.list`` for the number of unacknowledged messages."""
    return {
        "filter": 'metric.type = "pubsub.googleapis.com/subscription/num_undelivered_messages"'
        f' AND resource.labels.subscription_id = "{subscription_id}"',
        "interval.startTime": (now - _WINDOW).isoformat(),
        "interval.endTime": now.isoformat(),
    }


@cache
def _log_once(reason: str) -> None:
    log.debug(f"The depth of queues is unknown: {reason}")


def _query(settings: GcpSettings, project: str, subscription_id: str, now: datetime) -> Mapping[str, Any]:
    from cloud_tasks_gcp.rest import Rest

    endpoint = settings.monitoring_endpoint or f"https://{MONITORING}"
    with Rest(settings, endpoint, service=MONITORING, project=project, attempts=2) as rest:
        return rest.get(f"v3/projects/{project}/timeSeries", **backlog_query(subscription_id, now))


def _depth(answer: Mapping[str, Any]) -> Depth | None:
    """Return the newest point of the series; points are sorted newest first."""
    points = [point for series in answer.get("timeSeries", ()) for point in series["points"][:1]]
    if not points:
        return None
    return Depth(
        visible=int(points[0]["value"]["int64Value"]),
        in_flight=None,
        exact=False,
        as_of=datetime.fromisoformat(points[0]["interval"]["endTime"]),
    )
