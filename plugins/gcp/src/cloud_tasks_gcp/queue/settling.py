"""Calls for many ack ids at once, in which each id succeeds or fails by itself.

Exactly-once subscriptions tell the fate of each id that failed ("Exactly-once delivery" in the Pub/Sub documentation);
others refuse the whole call for one broken id.

Invariants, each with a test:

1. An id that failed for a passing reason is tried again; the others of its call are not.
2. A broken id is lost alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from google.api_core import exceptions as api

from cloud_tasks_gcp.queue.failures import ack_verdicts

__all__ = ["settle"]

_TRIES = 4
_FIRST_PAUSE = 0.2


def settle(
    call: Callable[[Sequence[str]], None],
    ack_ids: Sequence[str],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Make a call for all ids; returns those whose lease has ended. Raises what the call raises for other reasons."""
    lost: list[str] = []
    waiting = list(ack_ids)
    for attempt in range(_TRIES):
        try:
            call(waiting)
            return lost
        except api.GoogleAPICallError as error:
            verdicts = ack_verdicts(error)
            if verdicts is None:
                return lost + _settle_halves(call, waiting, error)
            lost += [ack_id for ack_id in waiting if verdicts.get(ack_id, "").startswith("PERMANENT_")]
            waiting = [ack_id for ack_id in waiting if verdicts.get(ack_id, "").startswith("TRANSIENT_")]
            if not waiting:
                return lost
            if attempt + 1 == _TRIES:
                raise
        sleep(_FIRST_PAUSE * 2**attempt)
    raise AssertionError("the last try returns or raises")  # pragma: no cover


def _settle_halves(
    call: Callable[[Sequence[str]], None], ack_ids: Sequence[str], error: api.GoogleAPICallError
) -> list[str]:
    if not isinstance(error, api.InvalidArgument):
        raise error
    if len(ack_ids) == 1:
        return list(ack_ids)
    middle = len(ack_ids) // 2
    return settle(call, ack_ids[:middle]) + settle(call, ack_ids[middle:])
