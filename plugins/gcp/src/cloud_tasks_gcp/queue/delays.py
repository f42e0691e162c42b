"""Delayed messages, emulated with ack deadlines: Pub/Sub has no delays.

A delayed message has its due time as an attribute. A consumer that receives it early hides it for the remaining time by
setting its ack deadline, at most ten minutes ("ModifyAckDeadline", Pub/Sub API reference).

Invariants, each with a test:

1. A message is never delivered before it is due.
2. A message with an unreadable due time is due.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

__all__ = ["MAX_ACK_DEADLINE", "delay_attributes", "split_due", "whole_seconds"]

_DUE = "cloud-tasks-due"
"""Name of the attribute with the due time (Unix time)."""
MAX_ACK_DEADLINE = 600
"""Maximum ack deadline in seconds."""


def delay_attributes(delay: timedelta, now: Callable[[], float] = time.time) -> dict[str, str]:
    """Return the attributes of a delayed message; empty without a delay."""
    return {_DUE: f"{now() + delay.total_seconds():.3f}"} if delay > timedelta(0) else {}


def split_due(received: Iterable[Any], now: Callable[[], float] = time.time) -> tuple[list[Any], dict[int, list[str]]]:
    """Return the due messages, and the ack ids of the early ones by remaining seconds."""
    due: list[Any] = []
    early: dict[int, list[str]] = {}
    for each in received:
        remaining = _remaining(each.message.attributes, now)
        if remaining > 0:
            early.setdefault(whole_seconds(remaining), []).append(each.ack_id)
        else:
            due.append(each)
    return due, early


def whole_seconds(seconds: float) -> int:
    """Round up to a valid ack deadline in seconds."""
    return max(0, min(MAX_ACK_DEADLINE, math.ceil(seconds)))


def _remaining(attributes: Mapping[str, str], now: Callable[[], float]) -> float:
    if _DUE not in attributes:
        return 0.0
    try:
        return float(attributes[_DUE]) - now()
    except ValueError:
        return 0.0
