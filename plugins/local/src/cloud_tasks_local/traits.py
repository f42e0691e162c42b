"""Traits of the local provider, as data without further imports."""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.plugin import ComputeTraits, QueueTraits, Reach

__all__ = ["COMPUTE_TRAITS", "QUEUE_TRAITS"]

QUEUE_TRAITS = QueueTraits(
    max_lease=timedelta(days=7),
    max_message_bytes=10 * 1024 * 1024,
    receive_batch=1000,
    send_batch=1000,
    delay=timedelta(days=7),
    reports_delivery_count=True,
    exactly_once=True,
    reach=Reach.MACHINE,
)

COMPUTE_TRAITS = ComputeTraits(
    lists_all_regions=True,
    spot=True,
    enforces_max_lifetime=True,
    max_parallel_launches=10,
    shares_files=True,
    listing_lag=timedelta(0),
    watch_interval=timedelta(seconds=1),
    delivers_secrets=True,
)
