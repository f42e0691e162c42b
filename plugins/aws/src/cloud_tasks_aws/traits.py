"""What SQS and EC2 can do, as data that costs nothing to import."""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.plugin import ComputeTraits, QueueTraits

__all__ = ["COMPUTE_TRAITS", "QUEUE_TRAITS"]

QUEUE_TRAITS = QueueTraits(
    max_lease=timedelta(hours=12),
    max_message_bytes=1024 * 1024,
    receive_batch=10,
    send_batch=10,
    delay=timedelta(minutes=15),
    delivery_counts=True,
    total_lease=timedelta(hours=12),
)

COMPUTE_TRAITS = ComputeTraits(listing_lag=timedelta(seconds=10), max_script_bytes=16 * 1024)
