"""`SimulatedQueue`: an at-least-once queue under the virtual clock, with every fault that its contract allows.

Invariants, each with a test:

1. A message that was sent and not acked is delivered again.
2. An ack with the lease of an earlier delivery removes nothing.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from virtual_loop import VirtualLoop

from cloud_tasks.errors import NotFoundError
from cloud_tasks.plugin import Delivery, Depth, SendFailure
from simulated_cloud.faults import Faults

__all__ = ["SimulatedQueue"]


class _Message:
    __slots__ = ("body", "count", "number", "visible_at")

    def __init__(self, number: int, body: bytes, visible_at: datetime) -> None:
        self.number = number
        self.body = body
        self.visible_at = visible_at
        self.count = 0


class SimulatedQueue:
    """One `cloud_tasks.plugin.Queue`; calls never fail here (see `Unreliable`).

    Args:
        on_ack: Called with each acked body.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        rng: random.Random,
        faults: Faults,
        *,
        lease: timedelta,
        exact_depth: bool = False,
        on_ack: Callable[[bytes], None] = lambda body: None,
    ) -> None:
        self.faults = faults
        self._loop = loop
        self._rng = rng
        self._lease = lease
        self._exact = exact_depth
        self._on_ack = on_ack
        self._numbers = itertools.count(1)
        self._messages: dict[int, _Message] = {}
        self._order: list[tuple[datetime, int]] = []
        self._hidden: set[int] = set()
        """Numbers of messages that may be invisible now: leased or delayed."""
        self._exists = False
        self._appears_at = loop.now()

    def create(self) -> None:
        if not self._exists and self.faults.calls.queue_delay:
            self._appears_at = self._loop.now() + self.faults.calls.queue_delay * self._rng.random()
        self._exists = True

    def delete(self) -> None:
        self._exists = False
        self._messages.clear()
        self._order.clear()
        self._hidden.clear()

    def purge(self) -> None:
        self._check()
        self._messages.clear()
        self._order.clear()
        self._hidden.clear()

    def exists(self) -> bool:
        return self._exists and (self._loop.now() >= self._appears_at or not self.faults.calls.queue_delay)

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        self._check()
        failures: list[SendFailure] = []
        partial = len(bodies) > 1 and self._rng.random() < self.faults.partial
        for index, body in enumerate(bodies):
            if partial and self._rng.random() < 0.3:
                failures.append(SendFailure(index=index, reason="throttled"))
                continue
            copies = 2 if self._rng.random() < self.faults.duplicated else 1
            for _ in range(copies):
                late = self._rng.uniform(0, 60) if self._rng.random() < self.faults.delayed else 0.0
                message = _Message(next(self._numbers), body, self._loop.now() + delay + timedelta(seconds=late))
                self._messages[message.number] = message
                self._queue(message)
        return failures

    def _queue(self, message: _Message) -> None:
        heapq.heappush(self._order, (message.visible_at, message.number))
        self._hidden.add(message.number)

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        self._check()
        now = self._loop.now()
        deliveries: list[Delivery] = []
        while self._order and self._order[0][0] <= now and len(deliveries) < max_messages:
            visible_at, number = heapq.heappop(self._order)
            message = self._messages.get(number)
            if message is None or message.visible_at != visible_at:
                continue  # acked or leased since
            message.count += 1
            message.visible_at = now + self._lease
            self._queue(message)
            deliveries.append(
                Delivery(lease_id=f"{number}/{message.count}", body=message.body, delivery_count=message.count)
            )
        if not deliveries:
            self._loop.charge(wait)
        return deliveries

    def _leased(self, lease_id: str) -> _Message | None:
        number, count = lease_id.split("/")
        message = self._messages.get(int(number))
        return message if message is not None and message.count == int(count) else None

    def readable_since(self, body: bytes) -> datetime | None:
        """Return since when the next receive call would get this message; None while it would not.

        A message is hidden while it is late, and for a lease after each receive call, one without an answer too.
        """
        now = self._loop.now()
        times = [each.visible_at for each in self._messages.values() if each.body == body]
        return min((time for time in times if time <= now), default=None)

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        stale: list[str] = []
        for lease_id in lease_ids:
            message = self._leased(lease_id)
            if message is None:
                stale.append(lease_id)
            else:
                self._on_ack(message.body)
                if self._rng.random() >= self.faults.ack_lost:
                    del self._messages[message.number]
        return stale

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        return self.extend(lease_ids, lease=delay)

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        stale: list[str] = []
        for lease_id in lease_ids:
            message = self._leased(lease_id)
            if message is None:
                stale.append(lease_id)
            else:
                message.visible_at = self._loop.now() + lease
                self._queue(message)
        return stale

    def depth(self) -> Depth:
        self._check()
        now = self._loop.now()
        if not self._exact:
            guess = self._rng.randint(0, len(self._messages))
            return Depth(visible=guess, in_flight=None, exact=False, as_of=now)
        messages = self._messages
        self._hidden = {n for n in self._hidden if n in messages and messages[n].visible_at > now}
        hidden = len(self._hidden)
        return Depth(visible=len(messages) - hidden, in_flight=hidden, exact=True, as_of=now)

    def close(self) -> None:
        """Do nothing: no connection is open."""

    def _check(self) -> None:
        if not self.exists():
            raise NotFoundError("the simulated queue does not exist")
