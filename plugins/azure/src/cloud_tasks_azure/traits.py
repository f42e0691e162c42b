"""Traits of Storage Queue and Virtual Machines, as data without imports of an SDK."""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.plugin import ComputeTraits, QueueTraits

__all__ = ["COMPUTE_TRAITS", "QUEUE_TRAITS", "STAGING_SCHEMES"]

QUEUE_TRAITS = QueueTraits(
    # "Update Message".
    max_lease=timedelta(days=7),
    # Of a message itself 64 KiB of text; larger bodies go to a blob.
    max_message_bytes=240 * 1024,
    # A call returns 32 messages and sends one; several calls run concurrently.
    receive_batch=256,
    send_batch=100,
    delay=timedelta(days=7),
    reports_delivery_count=True,
    bills_requests=True,
)

COMPUTE_TRAITS = ComputeTraits(
    # Azure has no maximum lifetime: a VM deletes itself, or powers itself off if it has no identity.
    enforces_max_lifetime=True,
    listing_lag=timedelta(seconds=10),
    lists_all_regions=True,
)

STAGING_SCHEMES = ("az", "abfs", "abfss")
"""Schemes of URLs of Blob Storage, for downloads of instances."""
