"""Queue of the provider in memory."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import attrs

from cloud_tasks.errors import NotFoundError
from cloud_tasks.plugin import Delivery, Depth, QueueTraits, SendFailure

__all__ = ["MemoryQueue", "MemoryQueues"]


@attrs.define
class _Message:
    body: bytes
    visible_at: datetime
    deliveries: int = 0
    lease_id: str | None = None


class MemoryQueues:
    """State of one provider: its queues, by name."""

    def __init__(self, *, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.changed = threading.Condition()
        self.messages: dict[str, list[_Message]] = {}
        self.lease_numbers = itertools.count(1)


class MemoryQueue:
    """`Queue` of one name. ``wait`` is in real time; leases and delays follow the provider's clock."""

    def __init__(
        self, queues: MemoryQueues, traits: QueueTraits, *, name: str, lease: timedelta, exact_depth: bool = True
    ) -> None:
        self._queues = queues
        self._traits = traits
        self._name = name
        self._lease = min(lease, traits.max_lease)
        self._exact_depth = exact_depth

    def create(self) -> None:
        with self._queues.changed:
            self._queues.messages.setdefault(self._name, [])

    def delete(self) -> None:
        with self._queues.changed:
            self._queues.messages.pop(self._name, None)
            self._queues.changed.notify_all()

    def purge(self) -> None:
        with self._queues.changed:
            self._messages().clear()

    def exists(self) -> bool:
        with self._queues.changed:
            return self._name in self._queues.messages

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        limit = self._traits.max_message_bytes
        with self._queues.changed:
            messages = self._messages()
            visible_at = self._queues.clock() + min(delay, self._traits.delay)
            messages.extend(_Message(body, visible_at) for body in bodies if len(body) <= limit)
            self._queues.changed.notify_all()
        return tuple(
            SendFailure(index=index, reason=f"larger than {limit} bytes", transient=False)
            for index, body in enumerate(bodies)
            if len(body) > limit
        )

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        deadline = time.monotonic() + wait.total_seconds()
        with self._queues.changed:
            while True:
                deliveries = self._lease_visible(min(max_messages, self._traits.receive_batch))
                remaining = deadline - time.monotonic()
                if deliveries or remaining <= 0:
                    return deliveries
                # The clock may move meanwhile, without a notification.
                self._queues.changed.wait(min(remaining, 0.01))

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        def remove(message: _Message) -> None:
            self._messages().remove(message)

        return self._settle(lease_ids, remove)

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        visible_at = self._queues.clock() + min(delay, self._traits.delay)

        def make_visible(message: _Message) -> None:
            message.lease_id, message.visible_at = None, visible_at

        return self._settle(lease_ids, make_visible)

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        until = self._queues.clock() + min(lease, self._traits.max_lease)

        def prolong(message: _Message) -> None:
            message.visible_at = until

        return self._settle(lease_ids, prolong)

    def depth(self) -> Depth:
        with self._queues.changed:
            now = self._queues.clock()
            messages = self._messages()
            visible = sum(message.visible_at <= now for message in messages)
            held = len(messages) - visible
            return Depth(visible=visible, in_flight=held, exact=self._exact_depth, as_of=now)

    def close(self) -> None:
        """Do nothing: no connection is open."""

    def _messages(self) -> list[_Message]:
        try:
            return self._queues.messages[self._name]
        except KeyError:
            raise NotFoundError(f'queue "{self._name}" not found') from None

    def _lease_visible(self, limit: int) -> list[Delivery]:
        now = self._queues.clock()
        visible = [message for message in self._messages() if message.visible_at <= now][:limit]
        for message in visible:
            message.lease_id = f"lease-{next(self._queues.lease_numbers)}"
            message.visible_at = now + self._lease
            message.deliveries += 1
        counts = self._traits.reports_delivery_count
        return [
            Delivery(
                lease_id=message.lease_id or "",
                body=message.body,
                delivery_count=message.deliveries if counts else None,
            )
            for message in visible
        ]

    def _settle(self, lease_ids: Sequence[str], act: Callable[[_Message], None]) -> list[str]:
        lost = []
        with self._queues.changed:
            held = {message.lease_id: message for message in self._queues.messages.get(self._name, [])}
            for lease_id in lease_ids:
                message = held.get(lease_id)
                if message is None:
                    lost.append(lease_id)
                else:
                    act(message)
            self._queues.changed.notify_all()
        return lost
