"""Batch calls for ack ids, each of which succeeds or fails separately.

Exactly-once subscriptions report the failure of each ack id ("Exactly-once delivery" in the Pub/Sub documentation);
others refuse the whole call for one invalid id.

Invariants, each with a test:

1. An ack id with a transient failure is retried; the others of its call are not.
2. An invalid ack id is lost without affecting others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from google.api_core import exceptions as api

from cloud_tasks_gcp.queue.pubsub_errors import ack_failures

__all__ = ["call_batch"]

_MAX_ATTEMPTS = 4
_INITIAL_BACKOFF = 0.2


def call_batch(
    call: Callable[[Sequence[str]], None],
    ack_ids: Sequence[str],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Make a call for all ack ids; return those whose lease has ended. Raise the call's exception for other
    failures."""
    lost: list[str] = []
    pending = list(ack_ids)
    for attempt in range(_MAX_ATTEMPTS):
        try:
            call(pending)
            return lost
        except api.GoogleAPICallError as error:
            failures = ack_failures(error)
            if failures is None:
                return lost + _call_halves(call, pending, error)
            lost += [ack_id for ack_id in pending if failures.get(ack_id, "").startswith("PERMANENT_")]
            pending = [ack_id for ack_id in pending if failures.get(ack_id, "").startswith("TRANSIENT_")]
            if not pending:
                return lost
            if attempt + 1 == _MAX_ATTEMPTS:
                raise
        sleep(_INITIAL_BACKOFF * 2**attempt)
    raise AssertionError("the last attempt returns or raises")  # pragma: no cover


def _call_halves(
    call: Callable[[Sequence[str]], None], ack_ids: Sequence[str], error: api.GoogleAPICallError
) -> list[str]:
    if not isinstance(error, api.InvalidArgument):
        raise error
    if len(ack_ids) == 1:
        return list(ack_ids)
    middle = len(ack_ids) // 2
    return call_batch(call, ack_ids[:middle]) + call_batch(call, ack_ids[middle:])
