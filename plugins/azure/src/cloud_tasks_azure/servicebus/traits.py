"""Traits of queues on Service Bus, as data without imports of an SDK."""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.plugin import QueueTraits

__all__ = ["SERVICE_BUS_TRAITS"]

SERVICE_BUS_TRAITS = QueueTraits(
    # The longest lock ("Message transfers, locks, and settlement"). It is renewed for the time of its queue only: hence
    # not `bills_requests`, with which workers ask for longer leases.
    max_lease=timedelta(minutes=5),
    # 256 KB in the standard tier, all counted.
    max_message_bytes=240 * 1024,
    receive_batch=256,
    send_batch=100,
    delay=timedelta(days=7),
    reports_delivery_count=True,
)
