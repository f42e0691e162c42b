"""Traits of Pub/Sub and Compute Engine, as data without imports of an SDK."""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.plugin import ComputeTraits, QueueTraits

__all__ = ["COMPUTE_TRAITS", "QUEUE_TRAITS", "STAGING_SCHEMES"]

QUEUE_TRAITS = QueueTraits(
    max_lease=timedelta(minutes=10),
    max_message_bytes=9_998_000,
    receive_batch=1000,
    send_batch=1000,
    delay=timedelta(minutes=10),
    exactly_once=True,
)
"""Traits of Pub/Sub. A publish request is limited to 10 MB, attributes and framing included ("Resource limits" in the
Pub/Sub documentation). Pub/Sub has no delayed messages; they are emulated with ack deadlines."""

COMPUTE_TRAITS = ComputeTraits(enforces_max_lifetime=True, listing_lag=timedelta(seconds=5), lists_all_regions=True)

STAGING_SCHEMES = ("gs", "gcs")
"""Schemes of URLs of Cloud Storage, for downloads of instances."""
