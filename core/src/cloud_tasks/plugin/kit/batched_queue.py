"""Base of a `Queue` on a service whose requests carry several messages and whose leases are identified by receipts.

A subclass makes the requests; splitting, parallel requests, retries of refused entries, leases and the rules of `Queue`
about partial failures are here. Times are rounded up to the resolution of the service, usually a second. A body above
the maximum of the traits is refused.

Invariants, each with a test:

1. A message that `send` did not report as failed was accepted by the service; a reported one may be stored as well, if
   a response was lost.
2. A lease belongs to the object that received the message; for another object it is lost. A lost lease never reaches
   the service.
3. Messages received by one of several requests are returned even if another request fails.
4. A failed request does not affect the leases that another request settled.
5. No name of a subclass replaces one that the base needs, besides the methods that may be overridden.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Generic, TypeVar

import attrs

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin.descriptors import QueueTraits
from cloud_tasks.plugin.kit.batches import Refused, batched, retry_refused, send_batches
from cloud_tasks.plugin.kit.fan_out import FanOut
from cloud_tasks.plugin.kit.lease_table import Held, LeaseTable, since_boot
from cloud_tasks.plugin.protocols import Delivery, SendFailure

__all__ = ["BatchedQueue", "Received", "RequestLimits"]

P = TypeVar("P")
_LEASE_MARGIN = timedelta(seconds=30)
"""Part of a limited total lease that is not used: the service starts it before its response arrives."""


@attrs.frozen(kw_only=True)
class RequestLimits:
    """Limits of one request of a service."""

    send: int
    """Maximum number of messages."""
    receive: int
    """Maximum number of messages of a receiving request."""
    settle: int
    """Maximum number of leases of a request that acks or extends."""
    send_bytes: int | None = None
    """Maximum size of the messages, as `BatchedQueue._size` counts it; None for no limit."""
    min_wait: timedelta = timedelta(0)
    """Minimum wait of a first receiving request, where a shorter one may miss messages."""


@attrs.frozen(kw_only=True)
class Received(Generic[P]):
    """One received message."""

    body: bytes
    """The message, as it was sent."""
    payload: P
    """What `BatchedQueue._ack` and `_change` need: a receipt, for example."""
    key: str | None = None
    """Id of the message, if receipts change: a new lease of it ends the former one."""
    delivery_count: int | None = None
    """Number of deliveries, 1 for the first; None if the service does not count them."""


class BatchedQueue(ABC, Generic[P]):
    """A `Queue` by requests. A subclass adds `create`, `delete`, `purge`, `exists` and `depth`. Thread-safe.

    Args:
        traits: Traits of the backend.
        limits: Limits of a request.
        lease: Lease of a received message, from the context.
        threads: Maximum number of parallel requests.
        resolution: Unit in which the service counts times.
        name: Start of the names of the threads.
        clock: Monotonic time in seconds, by which leases end.
    """

    def __init__(
        self,
        traits: QueueTraits,
        limits: RequestLimits,
        *,
        lease: timedelta,
        threads: int,
        name: str,
        resolution: timedelta = timedelta(seconds=1),
        clock: Callable[[], float] = since_boot,
    ) -> None:
        self.__traits = traits
        self.__limits = limits
        self.__resolution = resolution
        self.__lease = self.__rounded(min(lease, traits.max_lease))
        self.__fan_out = FanOut(threads, name)
        self.__closed = threading.Event()
        margin = _LEASE_MARGIN if traits.total_lease is not None else timedelta(0)
        self.__leases: LeaseTable[P] = LeaseTable(total=traits.total_lease, total_margin=margin, clock=clock)

    @property
    def _lease(self) -> timedelta:
        """Lease to request in `_receive`."""
        return self.__lease

    @property
    def _closed(self) -> threading.Event:
        """Set by `close`."""
        return self.__closed

    def _forget_leases(self) -> None:
        """Forget all leases, after their messages were deleted."""
        self.__leases.clear()

    # Requests, made by a subclass. They raise `ProviderError` if the whole request failed.

    @abstractmethod
    def _send(self, messages: Sequence[Any], delay: timedelta) -> Mapping[int, Refused]:
        """Send messages, as `_encode` returned them. Return the refused ones by their index."""

    @abstractmethod
    def _receive(self, count: int, wait: timedelta) -> Sequence[Received[P]]:
        """Lease up to ``count`` messages for `_lease`. Wait up to ``wait`` for the first, or less: it is called again.

        Raises:
            NotFoundError: The queue does not exist.
        """

    @abstractmethod
    def _ack(self, held: Sequence[Held[P]]) -> Mapping[int, Refused]:
        """Delete leased messages. Return the refused ones by their index; a permanent refusal means a lost lease."""

    @abstractmethod
    def _change(self, held: Sequence[Held[P]], leases: Sequence[timedelta]) -> Mapping[int, Refused]:
        """Set the remaining time of each lease; zero returns the message. Result as for `_ack`."""

    # May be overridden.

    def _encode(self, body: bytes) -> Any:
        """Return the message of a body, as `_send` takes it. Raises `ProviderError` for one that cannot be sent."""
        return body

    def _size(self, message: Any) -> int:
        """Return the bytes of a message in a request, framing included."""
        return len(message)

    def _group(self, payload: P) -> object:
        """Return what the leases of one request have in common, such as the address of their queue."""
        return None

    def _pause(self, left: float) -> None:
        """Wait before the next receiving request, at most ``left`` seconds, on ``self._closed``.

        Services that wait themselves need no pause.
        """

    # Queue

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        """Implement `Queue.send`."""
        failures, messages = [], []
        most = self.__traits.max_message_bytes
        for index, body in enumerate(bodies):
            try:
                if len(body) > most:
                    raise ProviderError(f"{len(body):,} bytes are more than the {most:,} of a message")
                messages.append((index, self._encode(body)))
            except ProviderError as error:
                failures.append(SendFailure(index=index, reason=str(error), transient=error.transient))
        delay = min(self.__rounded(delay, least=0), self.__traits.delay)

        def send(batch: Sequence[tuple[int, Any]]) -> Mapping[int, Refused]:
            return retry_refused(lambda some: self._send([message for _, message in some], delay), batch)

        limits = self.__limits
        batches = batched(
            messages, most=limits.send, most_bytes=limits.send_bytes, size=lambda entry: self._size(entry[1])
        )
        failures += send_batches(batches, send, index_of=lambda entry: entry[0], fan_out=self.__fan_out)
        return sorted(failures, key=lambda failure: failure.index)

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        """Implement `Queue.receive`."""
        if max_messages < 1:
            return []
        deadline = time.monotonic() + wait.total_seconds()
        most = self.__limits.receive
        while True:
            left = max(0.0, deadline - time.monotonic())
            found = self.__deliveries(min(max_messages, most), max(timedelta(seconds=left), self.__limits.min_wait))
            if len(found) == most < max_messages:
                return found + self.__receive_more(max_messages - most)
            left = deadline - time.monotonic()
            if found or left <= 0 or self.__closed.is_set():
                return found
            self._pause(left)

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        """Implement `Queue.ack`."""
        held, lost = self.__leases.split(lease_ids)
        return lost + self.__settle(held, self._ack, after=self.__forget)

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        """Implement `Queue.release`."""
        delay = min(self.__rounded(delay, least=0), self.__traits.delay)
        held, lost = self.__leases.split(lease_ids)
        allowed = {each.lease_id: self.__leases.allowed(each, delay) if delay else delay for each in held}
        return lost + self.__settle(held, lambda some: self.__changed(some, allowed), after=self.__forget)

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        """Implement `Queue.extend`. A lease that has reached the total of the traits is lost."""
        lease = self.__rounded(min(lease, self.__traits.max_lease))
        since = self.__leases.now()
        held, lost = self.__leases.split(lease_ids)
        allowed = {each.lease_id: self.__leases.allowed(each, lease) for each in held}
        ended = [each.lease_id for each in held if not allowed[each.lease_id]]
        self.__leases.forget(ended)

        def extended(done: Sequence[Held[P]]) -> None:
            for each in done:
                self.__leases.extended(each, allowed[each.lease_id], since=since)

        remaining = [each for each in held if allowed[each.lease_id]]
        return lost + ended + self.__settle(remaining, lambda some: self.__changed(some, allowed), after=extended)

    def close(self) -> None:
        """Implement `Queue.close`; waiting calls return."""
        self.__closed.set()
        self.__fan_out.close()

    def __rounded(self, time: timedelta, *, least: int = 1) -> timedelta:
        """Round up to the resolution."""
        return max(least, -(-time // self.__resolution)) * self.__resolution

    def __changed(self, held: Sequence[Held[P]], allowed: Mapping[str, timedelta]) -> Mapping[int, Refused]:
        return self._change(held, [allowed[each.lease_id] for each in held])

    def __forget(self, done: Sequence[Held[P]]) -> None:
        self.__leases.forget(each.lease_id for each in done)

    def __receive_more(self, remaining: int) -> list[Delivery]:
        """Receive more by parallel requests while at least half of the requested messages arrive."""
        found: list[Delivery] = []
        most = self.__limits.receive
        while remaining > 0:
            sizes = [min(most, remaining - start) for start in range(0, remaining, most)]
            wave = sizes[: self.__fan_out.threads]
            outcomes = self.__fan_out.outcomes(lambda count: self.__deliveries(count, timedelta(0)), wave)
            # An error that persists is raised by the next receive.
            received = [one for some in outcomes if not isinstance(some, ProviderError) for one in some]
            found += received
            remaining -= len(received)
            if len(received) * 2 < sum(wave):
                break
        return found

    def __deliveries(self, count: int, wait: timedelta) -> list[Delivery]:
        return [
            Delivery(
                lease_id=self.__leases.add(each.payload, self.__lease, key=each.key),
                body=each.body,
                delivery_count=each.delivery_count,
            )
            for each in self._receive(count, wait)
        ]

    def __settle(
        self,
        held: Sequence[Held[P]],
        call: Callable[[Sequence[Held[P]]], Mapping[int, Refused]],
        *,
        after: Callable[[Sequence[Held[P]]], None],
    ) -> list[str]:
        """Make requests for leases and return the lost ones. After all requests, raise the first error.

        Args:
            after: Called with the settled leases of each request.
        """

        def settle(chunk: Sequence[Held[P]]) -> tuple[list[str], ProviderError | None]:
            try:
                refused = retry_refused(call, chunk)
            except NotFoundError:
                refused = dict.fromkeys(range(len(chunk)), Refused("the queue does not exist", transient=False))
            lost = [chunk[index].lease_id for index, why in refused.items() if not why.transient]
            self.__leases.forget(lost)
            after([each for index, each in enumerate(chunk) if index not in refused])
            failed = [why for why in refused.values() if why.transient]
            return lost, ProviderError(failed[0].reason, transient=True) if failed else None

        outcomes = self.__fan_out.outcomes(settle, self.__requests(held))
        lost: list[str] = []
        errors: list[ProviderError] = []
        for outcome in outcomes:
            some, error = ([], outcome) if isinstance(outcome, ProviderError) else outcome
            lost += some
            errors += [error] if error is not None else []
        if errors:
            raise errors[0]
        return lost

    def __requests(self, held: Sequence[Held[P]]) -> list[list[Held[P]]]:
        groups: dict[object, list[Held[P]]] = {}
        for each in held:
            groups.setdefault(self._group(each.payload), []).append(each)
        return [batch for some in groups.values() for batch in batched(some, most=self.__limits.settle)]
