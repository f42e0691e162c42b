"""AMQP links of one Service Bus queue: a sending and a receiving one.

The SDK's links are not thread-safe ("Thread safety" in the readme of azure-servicebus), and a message is settled on the
link that received it. Calls therefore take turns, and waiting for messages is divided into slices, between which
settling calls have priority.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["ReceiveLink", "SendLink"]

_T = TypeVar("_T")
_SLICE = 1.0
"""Longest wait of a settling call for a receiving one, in seconds."""
_MIN_WAIT = 0.2
"""Seconds; covers the round trip of a response."""


class SendLink:
    """The sending link of a queue. Thread-safe.

    Args:
        connect: Creates a `ServiceBusSender` when the first message is sent.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._opened: Any = None

    def use(self, work: Callable[[Any], _T]) -> _T:
        """Call ``work`` with the sender, exclusively."""
        with self._lock:
            if self._opened is None:
                self._opened = self._connect()
            return work(self._opened)

    def close(self) -> None:
        """Close the link."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None


class ReceiveLink:
    """The receiving link of a queue. Thread-safe.

    Args:
        connect: Creates a `ServiceBusReceiver` when it is first needed.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._turn = threading.Condition()
        self._busy = False
        self._settling = 0
        self._closed = False
        self._opened: Any = None

    def receive(self, count: int, *, wait: float) -> Sequence[Any]:
        """Return the messages that arrive within ``wait`` seconds, as soon as there are any."""
        deadline = time.monotonic() + wait
        while True:
            left = deadline - time.monotonic()
            with self._my_turn(settling=False) as receiver:
                found: Sequence[Any] = receiver.receive_messages(
                    max_message_count=count, max_wait_time=min(_SLICE, max(_MIN_WAIT, left))
                )
            if found or self._closed or time.monotonic() >= deadline:
                return found

    def use(self, work: Callable[[Any], _T]) -> _T:
        """Call ``work`` with the receiver, exclusively, before the next receive."""
        with self._my_turn(settling=True) as receiver:
            return work(receiver)

    def close(self) -> None:
        """Interrupt waiting calls and close the link."""
        self._closed = True
        if self._opened is not None:
            self.use(lambda receiver: receiver.close())

    @contextmanager
    def _my_turn(self, *, settling: bool) -> Iterator[Any]:
        with self._turn:
            self._settling += settling
            try:
                self._turn.wait_for(lambda: not self._busy and (settling or not self._settling))
                self._busy = True
            finally:
                self._settling -= settling
        try:
            if self._opened is None:
                self._opened = self._connect()
            yield self._opened
        finally:
            with self._turn:
                self._busy = False
                self._turn.notify_all()
