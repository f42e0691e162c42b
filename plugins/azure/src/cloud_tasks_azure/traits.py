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

COMPUTE_TRAITS = ComputeTraits(
    # Azure itself has no longest lifetime: a machine deletes itself, or powers itself off where it has no identity.
    ends_itself=True,
    listing_lag=timedelta(seconds=10),
    # Custom data has 65,535 bytes; what is put before a script takes some.
    max_script_bytes=60 * 1024,
)
