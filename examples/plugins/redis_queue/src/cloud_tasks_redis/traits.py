"""Traits of the Redis queue, which the conformance kit checks."""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.plugin import QueueTraits

__all__ = ["TRAITS"]

TRAITS = QueueTraits(
    max_lease=timedelta(hours=12),
    max_message_bytes=1024 * 1024,
    receive_batch=100,
    send_batch=500,
    delay=timedelta(days=7),
    reports_delivery_count=True,
)
