"""What Azure's queues and Virtual Machines can do, as data that costs nothing to import."""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.plugin import ComputeTraits, QueueTraits

__all__ = ["COMPUTE_TRAITS", "QUEUE_TRAITS"]

# Of both services: of each figure the smaller one holds.
QUEUE_TRAITS = QueueTraits(
    # Storage Queue: 7 days ("Update Message"). Service Bus: 5 minutes ("Message transfers, locks, and settlement").
    max_lease=timedelta(minutes=5),
    # Storage Queue: 64 KiB of text, larger bodies go to a blob. Service Bus: 256 KB in the standard tier, all counted.
    max_message_bytes=240 * 1024,
    # Storage Queue gives 32 to a call, and takes one; many calls are made at once.
    receive_batch=256,
    send_batch=100,
    delay=timedelta(days=7),
    reports_delivery_count=True,
)

COMPUTE_TRAITS = ComputeTraits(
    # Azure itself has no longest lifetime: a machine deletes itself, or powers itself off where it has no identity.
    enforces_max_lifetime=True,
    listing_lag=timedelta(seconds=10),
)
