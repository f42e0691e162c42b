"""What SQS and EC2 can do, as data that costs nothing to import."""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.plugin import ComputeTraits, QueueTraits

__all__ = ["COMPUTE_TRAITS", "QUEUE_TRAITS"]

QUEUE_TRAITS = QueueTraits(
    max_lease=timedelta(hours=12),
    max_message_bytes=1024 * 1024,
    # SQS gives ten to a call; many calls are made at once.
    receive_batch=100,
    send_batch=10,
    # FIFO queues, for exactly-once, have none for single messages and ignore it; a release has it everywhere.
    delay=timedelta(minutes=15),
    reports_delivery_count=True,
    total_lease=timedelta(hours=12),
    exactly_once=True,
)

COMPUTE_TRAITS = ComputeTraits(
    # EC2 itself has no longest lifetime: an instance's user data powers it off, and that terminates it.
    enforces_max_lifetime=True,
    listing_lag=timedelta(seconds=10),
    # CreateFleet of type instant.
    provider_selects_offer=True,
)
