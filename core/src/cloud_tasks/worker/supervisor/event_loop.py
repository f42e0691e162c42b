"""The supervisor's event loop: one thread that waits for descriptors, timers and posted calls.

Invariants, each with a test:

1. Every callback runs in the loop's thread: readable descriptors first, then posted calls, then due timers.
2. A posted call wakes a loop that is waiting.
3. A channel never blocks the loop: what its socket does not accept is sent when the socket becomes writable.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.common.ipc import MAX_MESSAGE, Channel

if TYPE_CHECKING:
    import socket

__all__ = ["EventLoop", "LoopChannel"]

_DRAIN_BYTES = 1 << 16


class EventLoop:
    """Callbacks for readable descriptors, due timers and calls posted from other threads."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._posted: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_numbers = itertools.count()
        self._wake_out, self._wake_in = process_tree.wake_pipe()
        self.add_reader(self._wake_out, self._drain)

    def add_reader(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever the descriptor is readable."""
        self._readers[descriptor] = callback
        self._poll.register(descriptor, select.POLLIN)

    def remove_reader(self, descriptor: int) -> None:
        """Stop watching a descriptor; do nothing for one that is not watched."""
        if self._readers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def watch_writes(self, descriptor: int, is_wanted: bool) -> None:
        """Wake the loop, or no longer wake it, when a watched descriptor becomes writable."""
        if descriptor in self._readers:
            self._poll.modify(descriptor, select.POLLIN | select.POLLOUT if is_wanted else select.POLLIN)

    @property
    def wake_descriptor(self) -> int:
        """Descriptor for `signal.set_wakeup_fd`: a byte written to it wakes the loop."""
        return self._wake_in

    def post(self, action: Callable[[], None]) -> None:
        """Call ``action`` in the loop's thread, soon. Thread-safe."""
        self._posted.append(action)
        self.wake()

    def post_from_signal(self, action: Callable[[], None]) -> None:
        """Call ``action`` in the loop's thread, soon; the wake descriptor has already woken it."""
        self._posted.append(action)

    def wake(self) -> None:
        """Wake the loop if it is waiting. Thread-safe."""
        try:
            os.write(self._wake_in, b"\0")
        except OSError:
            # Full: the loop is about to wake. Closed: it has ended.
            return

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Call ``action`` once, after so many seconds."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._timer_numbers), action))

    @property
    def due_at(self) -> float:
        """Time of the first timer (`time.monotonic`); infinite for no timer."""
        return self._timers[0][0] if self._timers else float("inf")

    def run_once(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds for a descriptor, then run the callbacks that are ready."""
        readers = self._readers
        for descriptor, _ in self._poll.poll(timeout * 1000 + 0.5):
            callback = readers.get(descriptor)
            # An earlier callback may have removed it.
            if callback is not None:
                callback()
        while self._posted:
            self._posted.popleft()()
        timers = self._timers
        if timers:
            now = time.monotonic()
            while timers and timers[0][0] <= now:
                heapq.heappop(timers)[2]()

    def close(self) -> None:
        """Close the loop's own descriptors. Calls posted later are ignored."""
        # First: another file may get the descriptor, and a thread may still post.
        wake_in, self._wake_in = self._wake_in, -1
        os.close(self._wake_out)
        os.close(wake_in)

    def _drain(self) -> None:
        os.read(self._wake_out, _DRAIN_BYTES)


class LoopChannel(Channel):
    """A channel whose incoming messages are announced by an event loop, and that never blocks.

    Args:
        on_readable: Called whenever messages may have arrived.
        max_message: Bytes of a message at most.
    """

    def __init__(
        self,
        end: socket.socket,
        loop: EventLoop,
        on_readable: Callable[[], None],
        *,
        max_message: int = MAX_MESSAGE,
    ) -> None:
        super().__init__(end, blocking=False, max_message=max_message)
        self._loop = loop
        self.is_watched = True
        loop.add_reader(end.fileno(), on_readable)

    def flush(self) -> None:
        """Send what the socket accepts; the rest is sent by a later call, once the loop wakes for it."""
        if self._out and self.is_watched:
            super().flush()
            self._loop.watch_writes(self.fileno(), bool(self._out))

    def unwatch(self) -> None:
        """Stop watching the socket: its other end is closed."""
        if self.is_watched:
            self.is_watched = False
            self._loop.remove_reader(self.fileno())

    def close(self) -> None:
        self.unwatch()
        super().close()
