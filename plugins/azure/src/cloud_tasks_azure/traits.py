"""What Storage Queue and Virtual Machines can do, as data that costs nothing to import."""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.plugin import ComputeTraits, QueueTraits

__all__ = ["COMPUTE_TRAITS", "QUEUE_TRAITS"]

QUEUE_TRAITS = QueueTraits(
    max_lease=timedelta(days=7),
    max_message_bytes=48 * 1024,
    receive_batch=32,
    send_batch=1,
    delay=timedelta(days=7),
    delivery_counts=True,
)

COMPUTE_TRAITS = ComputeTraits(listing_lag=timedelta(seconds=10), max_script_bytes=64 * 1024)
