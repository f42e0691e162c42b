"""Batching of items into requests within Pub/Sub's limits.

Limits: "Resource limits" in the Pub/Sub documentation (10 MB and 1,000 messages for a publish request) and the
service's own error for acknowledgements ("Request payload size exceeds the limit: 524288 bytes").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["ACK_REQUEST", "MESSAGE_BYTES", "PUBLISH_REQUEST", "Limit", "batches"]

_T = TypeVar("_T")

Limit = tuple[int, int]
"""Maximum entries and bytes of one request."""

_RESERVED_BYTES = 1_000
PUBLISH_REQUEST: Limit = (1000, 10_000_000 - _RESERVED_BYTES)
ACK_REQUEST: Limit = (2500, 524_288 - 4 * _RESERVED_BYTES)
MESSAGE_BYTES = 10_000_000 - 2 * _RESERVED_BYTES
"""Maximum body size: such a body fits into a request of its own, with attributes and framing."""


def batches(items: Iterable[_T], limit: Limit, size: Callable[[_T], int]) -> Iterator[list[_T]]:
    """Yield the items in order, in the minimum number of requests.

    Args:
        size: Returns the bytes of one item in a request, framing included.
    """
    max_items, max_bytes = limit
    batch: list[_T] = []
    total = 0
    for item in items:
        length = size(item)
        if batch and (len(batch) == max_items or total + length > max_bytes):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += length
    if batch:
        yield batch
