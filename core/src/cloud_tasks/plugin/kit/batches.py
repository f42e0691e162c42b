"""Requests that carry many messages, each of which the service may accept or refuse.

Invariants, each with a test:

1. Nothing is lost and nothing is sent twice: each item is in exactly one batch, in order.
2. No batch exceeds the limits of a request.
3. Only the refused entries of a request are sent again, and only if that may help.
4. `send_bodies` and `send_batches` raise only if nothing was sent.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin.descriptors import QueueTraits
from cloud_tasks.plugin.kit.fan_out import FanOut
from cloud_tasks.plugin.protocols import SendFailure

__all__ = ["Refused", "batched", "retry_refused", "send_batches", "send_bodies"]

T = TypeVar("T")
_MAX_ATTEMPTS = 4
_INITIAL_BACKOFF = 0.2


@attrs.frozen
class Refused:
    """One entry that a request did not accept."""

    reason: str
    """One line."""
    transient: bool = True
    """Whether the same entry may be accepted later."""


def batched(
    items: Iterable[T], *, most: int, most_bytes: int | None = None, size: Callable[[T], int] | None = None
) -> Iterator[list[T]]:
    """Divide items into the smallest number of requests that keeps their order.

    Args:
        most: Maximum number of items of a request.
        most_bytes: Maximum size of a request; None for no limit. A larger item is in a request of its own.
        size: Return the bytes of an item in a request, framing included; None for its length.
    """
    measure: Callable[[Any], int] = size or len
    batch: list[T] = []
    total = 0
    for item in items:
        length = 0 if most_bytes is None else measure(item)
        if batch and (len(batch) == most or (most_bytes is not None and total + length > most_bytes)):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += length
    if batch:
        yield batch


def retry_refused(
    call: Callable[[Sequence[T]], Mapping[int, Refused]],
    items: Sequence[T],
    *,
    attempts: int = _MAX_ATTEMPTS,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[int, Refused]:
    """Make a request, and repeat it for the entries that were refused for the time being.

    Args:
        call: Makes one request; returns the refused entries by their index in its argument.
        attempts: Maximum number of requests; the pauses between them grow from 0.2 s.

    Returns:
        The entries that were refused in the end, by their index in ``items``.
    """
    failures: dict[int, Refused] = {}
    waiting = list(range(len(items)))
    for attempt in range(1, attempts + 1):
        refused = {waiting[place]: why for place, why in call([items[index] for index in waiting]).items()}
        failures |= {index: why for index, why in refused.items() if not why.transient}
        waiting = sorted(refused.keys() - failures.keys())
        if not waiting:
            return failures
        if attempt < attempts:
            sleep(_INITIAL_BACKOFF * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))
    return failures | {index: refused[index] for index in waiting}


def send_bodies(
    bodies: Sequence[bytes],
    send: Callable[[Sequence[bytes]], Mapping[int, Refused] | None],
    *,
    traits: QueueTraits,
    most_bytes: int | None = None,
    size: Callable[[bytes], int] | None = None,
    fan_out: FanOut | None = None,
) -> list[SendFailure]:
    """Implement `Queue.send` by requests: return the messages that were not sent; raise only if none was.

    Args:
        send: Sends one batch; returns the refused messages by their index in the batch, or None for none. Raises
            `ProviderError` if the request failed.
        traits: Limits of a message and of a batch.
        most_bytes: Maximum size of a batch, with ``size`` as for `batched`.
        fan_out: Sends batches in parallel. None: in sequence, until a request fails; the others are then not tried.
    """
    limit = traits.max_message_bytes
    failures = [
        SendFailure(index=index, reason=f"{len(body):,} bytes, more than the limit of {limit:,}", transient=False)
        for index, body in enumerate(bodies)
        if len(body) > limit
    ]
    accepted = [index for index, body in enumerate(bodies) if len(body) <= limit]
    measure = size or len
    batches = batched(
        accepted, most=traits.send_batch, most_bytes=most_bytes, size=lambda index: measure(bodies[index])
    )
    failures += send_batches(
        batches,
        lambda batch: send([bodies[index] for index in batch]) or {},
        index_of=lambda index: index,
        fan_out=fan_out,
    )
    return sorted(failures, key=lambda failure: failure.index)


def send_batches(
    batches: Iterable[Sequence[T]],
    send: Callable[[Sequence[T]], Mapping[int, Refused]],
    *,
    index_of: Callable[[T], int],
    fan_out: FanOut | None = None,
) -> list[SendFailure]:
    """Do the same with batches of other messages than bodies.

    Args:
        index_of: Return the index of a message in the argument of `Queue.send`.
    """
    todo = [list(batch) for batch in batches]
    outcomes = fan_out.outcomes(send, todo) if fan_out is not None else _in_sequence(todo, send)
    errors = [outcome for outcome in outcomes if isinstance(outcome, ProviderError)]
    if errors and len(errors) == len(todo):
        # A permanent error is the one that a person has to see.
        raise min(errors, key=lambda error: error.transient)
    failures: list[SendFailure] = []
    for batch, outcome in zip(todo, outcomes, strict=True):
        if isinstance(outcome, ProviderError):
            outcome = dict.fromkeys(range(len(batch)), Refused(str(outcome), outcome.transient))
        failures += [
            SendFailure(index=index_of(batch[place]), reason=why.reason, transient=why.transient)
            for place, why in outcome.items()
        ]
    return sorted(failures, key=lambda failure: failure.index)


def _in_sequence(
    batches: Sequence[Sequence[T]], send: Callable[[Sequence[T]], Mapping[int, Refused]]
) -> list[Mapping[int, Refused] | ProviderError]:
    outcomes: list[Mapping[int, Refused] | ProviderError] = []
    for batch in batches:
        try:
            outcomes.append(send(batch))
        except ProviderError as error:
            return outcomes + [error] * (len(batches) - len(outcomes))
    return outcomes
