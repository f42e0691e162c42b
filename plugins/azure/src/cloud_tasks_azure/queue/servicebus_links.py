"""The links of one Service Bus queue: one that sends, one that receives.

The SDK's links are made for one thread each ("Thread safety" in the readme of azure-servicebus), and a message is
settled on the link that received it. So calls take turns, and a wait for messages is cut into slices, between which
those go first who hold something.
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
"""Seconds that a settling call waits at most for one that receives."""
_SHORTEST = 0.2
"""Seconds: an answer needs a way there and back."""


class SendLink:
    """Thread-safe.

    Args:
        connect: Makes a `ServiceBusSender`; asked when the first message is sent.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._made: Any = None

    def use(self, work: Callable[[Any], _T]) -> _T:
        """Do something with the sender, alone."""
        with self._lock:
            if self._made is None:
                self._made = self._connect()
            return work(self._made)

    def close(self) -> None:
        """Free the link."""
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None


class ReceiveLink:
    """Thread-safe.

    Args:
        connect: Makes a `ServiceBusReceiver`; asked when it is needed first.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._turn = threading.Condition()
        self._busy = False
        self._settling = 0
        self._closed = False
        self._made: Any = None

    def receive(self, count: int, *, wait: float) -> Sequence[Any]:
        """The messages that come within ``wait`` seconds; returns with the first of them."""
        deadline = time.monotonic() + wait
        while True:
            left = deadline - time.monotonic()
            with self._my_turn(settling=False) as receiver:
                found: Sequence[Any] = receiver.receive_messages(
                    max_message_count=count, max_wait_time=min(_SLICE, max(_SHORTEST, left))
                )
            if found or self._closed or time.monotonic() >= deadline:
                return found

    def use(self, work: Callable[[Any], _T]) -> _T:
        """Do something with the receiver, alone, before anybody receives again."""
        with self._my_turn(settling=True) as receiver:
            return work(receiver)

    def close(self) -> None:
        """End the waits; free the link."""
        self._closed = True
        if self._made is not None:
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
            if self._made is None:
                self._made = self._connect()
            yield self._made
        finally:
            with self._turn:
                self._busy = False
                self._turn.notify_all()
