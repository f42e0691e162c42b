"""Delays, which Pub/Sub does not have: a message that is early is leased to nobody until it is due.

A message that was sent with a delay carries the moment when it is due. Whoever receives it before hides it, by its ack
deadline, for what is left; a deadline is ten minutes at most ("ModifyAckDeadline", Pub/Sub API reference).

Invariants, each with a test:

1. A message that is not due is never handed out.
2. What says when it is due in a way that nobody understands is due.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

__all__ = ["LONGEST_HIDING", "attributes_of", "sort_out", "whole_seconds"]

_DUE = "cloud-tasks-due"
"""Attribute: Unix time."""
LONGEST_HIDING = 600
"""Seconds."""


def attributes_of(delay: timedelta, now: Callable[[], float] = time.time) -> dict[str, str]:
    """What a message carries that is sent with a delay."""
    return {_DUE: f"{now() + delay.total_seconds():.3f}"} if delay > timedelta(0) else {}


def sort_out(received: Iterable[Any], now: Callable[[], float] = time.time) -> tuple[list[Any], dict[int, list[str]]]:
    """Messages that are due, and the ack ids of the others by the seconds that they have to be hidden for."""
    due: list[Any] = []
    early: dict[int, list[str]] = {}
    for each in received:
        left = _left(each.message.attributes, now)
        if left > 0:
            early.setdefault(whole_seconds(left), []).append(each.ack_id)
        else:
            due.append(each)
    return due, early


def whole_seconds(seconds: float) -> int:
    """Seconds as an ack deadline can have them."""
    return max(0, min(LONGEST_HIDING, math.ceil(seconds)))


def _left(attributes: Mapping[str, str], now: Callable[[], float]) -> float:
    if _DUE not in attributes:
        return 0.0
    try:
        return float(attributes[_DUE]) - now()
    except ValueError:
        return 0.0
