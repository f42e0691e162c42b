"""The queue itself: a topic and its one subscription.

Invariants, each with a test:

1. What `send` did not report as failed is at Pub/Sub; what it reported may be there all the same where an answer was
   lost.
2. A lease belongs to the object that received the message: settled elsewhere, it is lost.
3. No call is made for a single message where there are more of them.
4. The depth is never an error while the queue is there: what cannot be had is unknown.
5. A message is handed out only with the lease that was asked for; a message that was lost on its way is back after the
   shortest lease that there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar

import structlog

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import Delivery, Depth, SendFailure
from cloud_tasks_gcp.queue.batches import ACK_REQUEST, MESSAGE_BYTES, PUBLISH_REQUEST, batches
from cloud_tasks_gcp.queue.delays import attributes_of, sort_out, whole_seconds
from cloud_tasks_gcp.queue.failures import calling
from cloud_tasks_gcp.queue.leases import Held, LeaseBook
from cloud_tasks_gcp.queue.pulls import Pulls
from cloud_tasks_gcp.queue.wire import Shape, Wire, message
from cloud_tasks_gcp.traits import QUEUE_TRAITS as TRAITS

__all__ = ["SHORTEST_LOOK", "PubSubQueue"]

log = structlog.get_logger()

_T = TypeVar("_T")
_R = TypeVar("_R")
SHORTEST_LOOK = 1.0
"""Seconds. Pub/Sub gathers messages before it answers: who waits less finds nothing where there is something."""
_EMPTY = "cloud-tasks-empty"
"""Attribute: Pub/Sub takes no message that has neither a body nor an attribute."""
_FRAMING = 12
_THREADS = 4


class PubSubQueue:
    """The `Queue` of one name. Thread-safe.

    Args:
        wire: Its connection; closed with this object.
        shape: What it is made with.
        lease: The first lease of a received message.
        ask_depth: Asks how many messages there are.
        project: For messages.
        shortest_look: Seconds that an empty answer takes at least.
        greeting: Lines for the log, when the queue is made.
    """

    def __init__(
        self,
        wire: Wire,
        shape: Shape,
        *,
        lease: timedelta,
        ask_depth: Callable[[], Depth],
        project: str,
        book: LeaseBook | None = None,
        shortest_look: float = SHORTEST_LOOK,
        greeting: Sequence[str] = (),
    ) -> None:
        self._greeting = greeting
        self._wire = wire
        self._shape = shape
        self._lease = whole_seconds(min(lease, TRAITS.max_lease).total_seconds())
        self._ask_depth = ask_depth
        self._project = project
        self._book = book if book is not None else LeaseBook()
        self._shortest_look = shortest_look
        self._pulls = Pulls(wire.begin_pull, self._give_back)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="cloud-tasks-pubsub")

    # Life of the queue

    def create(self) -> None:
        for line in self._greeting:
            log.info(line)
        self._wire.create(self._shape)

    def delete(self) -> None:
        self._wire.delete()
        self._book.clear()

    def purge(self) -> None:
        """`Queue.purge`: by this machine's clock, which should be right to a second."""
        self._wire.seek_to_now()
        self._book.clear()

    def exists(self) -> bool:
        return self._wire.is_there()

    def depth(self) -> Depth:
        """What Cloud Monitoring knew, a minute or more ago; unknown where it cannot be asked."""
        self._wire.require()
        return self._ask_depth()

    def close(self) -> None:
        self._pulls.close()
        self._threads.shutdown(cancel_futures=True)
        self._wire.close()

    # Sending

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        attributes = attributes_of(min(delay, TRAITS.delay))
        room = sum(len(key) + len(value) + _FRAMING for key, value in attributes.items()) + _FRAMING
        failures = [
            SendFailure(
                index=index, reason=f"{len(body)} bytes, the limit of Pub/Sub is {MESSAGE_BYTES}", transient=False
            )
            for index, body in enumerate(bodies)
            if len(body) > MESSAGE_BYTES
        ]
        fitting = [index for index, body in enumerate(bodies) if len(body) <= MESSAGE_BYTES]
        requests = list(batches(fitting, PUBLISH_REQUEST, lambda index: len(bodies[index]) + room))

        def publish(some: Sequence[int]) -> dict[int, ProviderError]:
            messages = [
                message(bodies[index], attributes if bodies[index] else {**attributes, _EMPTY: "1"}) for index in some
            ]
            return {some[place]: error for place, error in self._wire.publish(messages).items()}

        refused = {index: error for found in self._map(publish, requests) for index, error in found.items()}
        if refused and len(refused) == len(bodies):
            raise next(iter(refused.values()))
        failures += [
            SendFailure(index=index, reason=str(error), transient=error.transient) for index, error in refused.items()
        ]
        return sorted(failures, key=lambda failure: failure.index)

    # Receiving

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        """`Queue.receive`; an empty answer takes `SHORTEST_LOOK` at least."""
        if max_messages < 1:
            return []
        deadline = time.monotonic() + max(wait.total_seconds(), self._shortest_look)
        while True:
            left = max(0.0, deadline - time.monotonic())
            with calling("receiving from the queue", self._project):
                received = self._pulls.take(min(max_messages, TRAITS.receive_batch), left)
            due, early = sort_out(received)
            for seconds, ack_ids in early.items():
                self._hide(ack_ids, seconds)
            deliveries = self._deliver(due)
            if deliveries:
                return deliveries
            if not received or time.monotonic() >= deadline:
                return []

    def _deliver(self, received: Sequence[Any]) -> list[Delivery]:
        """Take the lease that was asked for; messages for which that cannot be had come again, to whoever asks."""
        if self._lease != self._shape.ack_deadline:
            gone = set(self._hide([each.ack_id for each in received], self._lease))
            received = [each for each in received if each.ack_id not in gone]
        lease_ids = self._book.add([each.ack_id for each in received], self._lease)
        return [
            Delivery(lease_id=lease_id, body=each.message.data, delivery_count=each.delivery_attempt or None)
            for lease_id, each in zip(lease_ids, received, strict=True)
        ]

    def _hide(self, ack_ids: Sequence[str], seconds: int) -> list[str]:
        return self._in_requests(ack_ids, lambda some: self._wire.modify(some, seconds))

    def _give_back(self, received: Sequence[Any]) -> None:
        """Messages that nobody waits for, called where nothing may block."""
        for some in batches([each.ack_id for each in received], ACK_REQUEST, _ack_size):
            try:
                self._wire.begin_release(some)
            except ValueError:
                # The connection is closed: their lease ends by itself.
                return

    # Settling

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        return self._settle(lease_ids, self._wire.acknowledge, self._forget)

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        seconds = whole_seconds(delay.total_seconds())
        return self._settle(lease_ids, lambda some: self._wire.modify(some, seconds), self._forget)

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        seconds = max(1, whole_seconds(min(lease, TRAITS.max_lease).total_seconds()))
        return self._settle(
            lease_ids,
            lambda some: self._wire.modify(some, seconds),
            lambda done: self._book.extended(done, seconds),
        )

    def _settle(
        self,
        lease_ids: Sequence[str],
        call: Callable[[Sequence[str]], Sequence[str]],
        after: Callable[[Iterable[Held]], None],
    ) -> list[str]:
        """Make a call for the leases that are held; returns those that were lost before.

        Args:
            call: Takes ack ids, returns those whose lease had ended.
            after: Told of the leases for which the call had its effect, request by request.
        """
        held, lost = self._book.split(lease_ids)
        by_ack_id = {each.ack_id: each for each in held}

        def settle(some: Sequence[str]) -> list[str]:
            ended = set(call(some))
            after(by_ack_id[ack_id] for ack_id in some if ack_id not in ended)
            gone = [by_ack_id[ack_id].lease_id for ack_id in ended]
            self._book.forget(gone)
            return gone

        return lost + self._in_requests(list(by_ack_id), settle)

    def _forget(self, done: Iterable[Held]) -> None:
        self._book.forget(each.lease_id for each in done)

    def _in_requests(self, ack_ids: Sequence[str], call: Callable[[Sequence[str]], Sequence[str]]) -> list[str]:
        requests = list(batches(ack_ids, ACK_REQUEST, _ack_size))
        return [one for some in self._map(call, requests) for one in some]

    def _map(self, work: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
        """Do ``work`` for each, at the same time where there are several. Raises what the first of them raised."""
        if len(items) < 2:
            return [work(item) for item in items]
        return list(self._threads.map(work, items))


def _ack_size(ack_id: str) -> int:
    return len(ack_id) + 4
