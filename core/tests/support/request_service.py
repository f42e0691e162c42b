"""A message service of requests, as clouds have it, and a queue on it made with the kit.

The service refuses requests over its limits, and accepts expired receipts: an ack with one deletes the message, even if
another consumer holds it now.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import attrs

from cloud_tasks.errors import NotFoundError
from cloud_tasks.plugin import Depth, QueueContext, QueueTraits
from cloud_tasks.plugin.kit import BatchedQueue, Held, Received, Refused, RequestLimits

__all__ = ["LIMITS", "TRAITS", "RequestQueue", "RequestService"]

TRAITS = QueueTraits(
    max_lease=timedelta(hours=1),
    max_message_bytes=1000,
    receive_batch=50,
    send_batch=4,
    delay=timedelta(hours=1),
    reports_delivery_count=True,
)
LIMITS = RequestLimits(send=4, receive=5, settle=3, send_bytes=1000)


@attrs.define
class _Message:
    number: int
    body: bytes
    visible_at: float
    deliveries: int = 0
    leased: bool = False


class RequestService:
    """Queues by name, and a clock that tests set.

    Args:
        faults: Called with the action and the number of entries of each request; may raise, or return the entries to
            refuse.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.queues: dict[str, dict[int, _Message]] = {}
        self.requests: list[tuple[str, int]] = []
        self.faults: Callable[[str, int], Mapping[int, Refused]] = lambda action, count: {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def request(self, action: str, name: str, count: int) -> tuple[dict[int, _Message], Mapping[int, Refused]]:
        """Return the messages of the queue, and the entries to refuse."""
        most = {"send": LIMITS.send, "receive": LIMITS.receive}.get(action, LIMITS.settle)
        assert 1 <= count <= most, f"{count} entries in a request: {action}"
        with self._lock:
            self.requests.append((action, count))
        refused = self.faults(action, count)
        if name not in self.queues:
            raise NotFoundError(f'queue "{name}" not found')
        return self.queues[name], refused

    def send(self, name: str, bodies: Sequence[bytes], delay: float) -> Mapping[int, Refused]:
        assert sum(map(len, bodies)) <= (LIMITS.send_bytes or 0)
        messages, refused = self.request("send", name, len(bodies))
        with self._lock:
            for index, body in enumerate(bodies):
                if index not in refused:
                    number = next(self._numbers)
                    messages[number] = _Message(number, body, self.now + delay)
        return refused

    def receive(self, name: str, count: int, lease: float) -> list[_Message]:
        messages, _ = self.request("receive", name, count)
        with self._lock:
            found = [each for each in messages.values() if each.visible_at <= self.now][:count]
            for each in found:
                each.deliveries, each.visible_at, each.leased = each.deliveries + 1, self.now + lease, True
            return [attrs.evolve(each) for each in found]

    def settle(self, action: str, name: str, numbers: Sequence[int], seconds: Sequence[float]) -> Mapping[int, Refused]:
        messages, refused = self.request(action, name, len(numbers))
        result = dict(refused)
        with self._lock:
            for index, number in enumerate(numbers):
                if index in result:
                    continue
                if number not in messages:
                    result[index] = Refused("unknown receipt", transient=False)
                elif action == "ack":
                    del messages[number]
                else:
                    messages[number].visible_at = self.now + seconds[index]
                    messages[number].leased = seconds[index] > 0
        return result


class RequestQueue(BatchedQueue[int]):
    """The queue of one name. The receipt of a message is its number, in every delivery."""

    def __init__(
        self, service: RequestService, context: QueueContext, resolution: timedelta = timedelta(seconds=1)
    ) -> None:
        super().__init__(
            TRAITS,
            LIMITS,
            lease=context.lease,
            threads=3,
            name="request-queue",
            resolution=resolution,
            clock=lambda: service.now,
        )
        self._service = service
        self._queue_name = context.name

    def create(self) -> None:
        self._service.queues.setdefault(self._queue_name, {})

    def delete(self) -> None:
        self._service.queues.pop(self._queue_name, None)

    def purge(self) -> None:
        self._service.request("purge", self._queue_name, 1)[0].clear()

    def exists(self) -> bool:
        return self._queue_name in self._service.queues

    def depth(self) -> Depth:
        messages, _ = self._service.request("depth", self._queue_name, 1)
        visible = sum(each.visible_at <= self._service.now for each in messages.values())
        return Depth(visible=visible, in_flight=len(messages) - visible, exact=True, as_of=datetime.now(UTC))

    def _send(self, messages: Sequence[bytes], delay: timedelta) -> Mapping[int, Refused]:
        return self._service.send(self._queue_name, messages, delay.total_seconds())

    def _receive(self, count: int, wait: timedelta) -> Sequence[Received[int]]:
        found = self._service.receive(self._queue_name, count, self._lease.total_seconds())
        return [
            Received(body=each.body, payload=each.number, key=str(each.number), delivery_count=each.deliveries)
            for each in found
        ]

    def _pause(self, left: float) -> None:
        time.sleep(min(left, 0.01))

    def _ack(self, held: Sequence[Held[int]]) -> Mapping[int, Refused]:
        return self._service.settle("ack", self._queue_name, [each.payload for each in held], [])

    def _change(self, held: Sequence[Held[int]], leases: Sequence[timedelta]) -> Mapping[int, Refused]:
        seconds = [lease.total_seconds() for lease in leases]
        return self._service.settle("change", self._queue_name, [each.payload for each in held], seconds)
