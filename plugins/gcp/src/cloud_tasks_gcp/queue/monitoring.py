"""Queue depth from Cloud Monitoring.

Pub/Sub itself reports no depth. Monitoring samples once a minute and publishes a sample some minutes later ("Google
Cloud metrics": ``pubsub.googleapis.com/subscription/num_undelivered_messages`` and ``…/num_outstanding_messages``).

Invariants, each with a test:

1. The result is always a `Depth`; without a valid response its figures are unknown.
2. A figure has the time of its sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import Depth
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["read_depth"]

_ENDPOINT = "https://monitoring.googleapis.com"
_BACKLOG = "pubsub.googleapis.com/subscription/num_undelivered_messages"
_LEASED = "pubsub.googleapis.com/subscription/num_outstanding_messages"
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
    except (ProviderError, ValueError, KeyError, TypeError, AttributeError):
        return unknown


def _query(settings: GcpSettings, project: str, subscription_id: str, now: datetime) -> Mapping[str, Any]:
    from cloud_tasks_gcp.rest import Rest

    endpoint = settings.monitoring_endpoint or _ENDPOINT
    with Rest(settings, endpoint, service="monitoring.googleapis.com", project=project, attempts=2) as rest:
        return rest.get(
            f"v3/projects/{project}/timeSeries",
            **{
                "filter": f'metric.type = one_of("{_BACKLOG}", "{_LEASED}")'
                f' AND resource.labels.subscription_id = "{subscription_id}"',
                "interval.startTime": (now - _WINDOW).isoformat(),
                "interval.endTime": now.isoformat(),
            },
        )


def _depth(answer: Mapping[str, Any]) -> Depth | None:
    """Return the newest point of each series; points are sorted newest first."""
    newest = {
        series["metric"]["type"]: series["points"][0] for series in answer.get("timeSeries", ()) if series["points"]
    }
    backlog = newest.get(_BACKLOG)
    if backlog is None:
        return None
    unacked = int(backlog["value"]["int64Value"])
    leased = int(newest[_LEASED]["value"]["int64Value"]) if _LEASED in newest else None
    return Depth(
        visible=unacked if leased is None else max(0, unacked - leased),
        in_flight=leased,
        exact=False,
        as_of=datetime.fromisoformat(backlog["interval"]["endTime"]),
    )
