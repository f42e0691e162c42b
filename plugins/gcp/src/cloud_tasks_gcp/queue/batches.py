"""What fits into one request.

Limits: "Resource limits" in the Pub/Sub documentation (10 MB and 1,000 messages for a publish request) and the
answer of the service itself for acknowledgements ("Request payload size exceeds the limit: 524288 bytes").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["ACK_REQUEST", "MESSAGE_BYTES", "PUBLISH_REQUEST", "Limit", "batches"]

_T = TypeVar("_T")

Limit = tuple[int, int]
"""Entries and bytes of one request."""

_ROOM_FOR_NAMES = 1_000
PUBLISH_REQUEST: Limit = (1000, 10_000_000 - _ROOM_FOR_NAMES)
ACK_REQUEST: Limit = (2500, 524_288 - 4 * _ROOM_FOR_NAMES)
MESSAGE_BYTES = 10_000_000 - 2 * _ROOM_FOR_NAMES
"""A body of this size fits into a request of its own, with attributes and framing."""


def batches(items: Iterable[_T], limit: Limit, size: Callable[[_T], int]) -> Iterator[list[_T]]:
    """The items in order, in as few requests as take them.

    Args:
        size: Bytes of one item in a request, framing included.
    """
    most, most_bytes = limit
    batch: list[_T] = []
    total = 0
    for item in items:
        length = size(item)
        if batch and (len(batch) == most or total + length > most_bytes):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += length
    if batch:
        yield batch
