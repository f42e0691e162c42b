"""What Pub/Sub and Compute Engine can do, as data that costs nothing to import."""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.plugin import ComputeTraits, QueueTraits

__all__ = ["COMPUTE_TRAITS", "QUEUE_TRAITS"]

QUEUE_TRAITS = QueueTraits(
    max_lease=timedelta(minutes=10),
    max_message_bytes=10 * 1024 * 1024,
    receive_batch=1000,
    send_batch=1000,
    exactly_once=True,
)

COMPUTE_TRAITS = ComputeTraits(ends_itself=True, listing_lag=timedelta(seconds=10), max_script_bytes=256 * 1024)
