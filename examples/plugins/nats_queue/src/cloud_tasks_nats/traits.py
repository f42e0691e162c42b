"""Traits of the queue, each tested by the conformance kit."""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.plugin import QueueTraits

__all__ = ["TRAITS"]

TRAITS = QueueTraits(
    max_lease=timedelta(hours=12),
    # The default limit of a server is 1 MiB, headers included.
    max_message_bytes=1_000_000,
    receive_batch=100,
    send_batch=500,
    delay=timedelta(days=7),
    reports_delivery_count=True,
)
