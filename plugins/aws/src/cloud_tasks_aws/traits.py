"""Traits of SQS and EC2, as data without imports of an SDK."""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.plugin import ComputeTraits, QueueTraits

__all__ = ["COMPUTE_TRAITS", "QUEUE_TRAITS", "STAGING_SCHEMES"]

QUEUE_TRAITS = QueueTraits(
    max_lease=timedelta(hours=12),
    max_message_bytes=1024 * 1024,
    # A call returns ten messages at most; several calls run concurrently.
    receive_batch=100,
    send_batch=10,
    # FIFO queues (exactly-once) have no delay of single messages and ignore it; releasing with a delay works for both.
    delay=timedelta(minutes=15),
    reports_delivery_count=True,
    total_lease=timedelta(hours=12),
    exactly_once=True,
    bills_requests=True,
)

COMPUTE_TRAITS = ComputeTraits(
    # EC2 has no maximum lifetime: user data powers the instance off, which terminates it.
    enforces_max_lifetime=True,
    listing_lag=timedelta(seconds=10),
    # CreateFleet of type "instant".
    provider_selects_offer=True,
)

STAGING_SCHEMES = ("s3",)
"""Schemes of URLs of S3, for downloads of instances."""
