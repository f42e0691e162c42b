"""Task processes that do several tasks each (``--reuse-processes``), as the supervisor sees them.

The template makes a process and hands over its socket; from then on supervisor and process talk without it. For tasks
of milliseconds a few are sent ahead, so that neither side waits for the other.

Invariants, each with a test:

1. A process does its tasks in the order in which they were sent, and is blamed for none but the one that it was doing.
2. What was sent to a process and not begun when that ended is given back, as if it had never been sent.
3. Ahead of a process waits no more than it does in some milliseconds.
"""

from __future__ import annotations

import _socket
import select
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from cloud_tasks.worker.common.ipc import Channel, ChannelClosedError
from cloud_tasks.worker.consumers.attempt_types import RunningAttempt
from cloud_tasks.worker.supervisor.prefetch import prefetch_count

__all__ = ["Ended", "ProcessPool"]


class Ended(NamedTuple):
    """What a process says of an attempt that it has made."""

    running: RunningAttempt
    seconds: float
    has_scratch: bool
    tail: bytes
    content: bytes | None
    """Its report; None: it is in a file."""
    descriptor: int


class Member:
    """One process."""

    __slots__ = ("channel", "doomed", "has_room", "head", "left", "pid", "slot", "unsent", "waiting")

    def __init__(self, slot: int, left: int) -> None:
        self.slot = slot
        self.left = left
        """How many more tasks may be sent to it."""
        self.pid: int | None = None
        self.channel: Channel | None = None
        """None: it is not there yet."""
        self.head: RunningAttempt | None = None
        """What it is doing."""
        self.waiting: deque[RunningAttempt] = deque()
        """What it will do then."""
        self.unsent: list[Any] = []
        """Messages from before it was there."""
        self.doomed: RunningAttempt | None = None
        """The one that it was told to end for."""
        self.has_room = False


class ProcessPool:
    """All of them. Used by the supervisor's loop.

    Args:
        slots: How many processes there are at most.
        reuse: How many tasks each does.
        make: Asks the template for the process of a slot.
        on_begun: Told of each attempt that its process turns to.
        on_ended: Told of each that was reported.
        kill: Kills a process.
    """

    def __init__(
        self,
        poll: select.poll,
        *,
        slots: int,
        reuse: int,
        make: Callable[[int], None],
        on_begun: Callable[[RunningAttempt], None],
        on_ended: Callable[[Ended], None],
        kill: Callable[[int | None], None],
    ) -> None:
        self._poll = poll
        self._reuse = reuse
        self._make = make
        self._on_begun = on_begun
        self._on_ended = on_ended
        self._kill = kill
        self._free = list(range(slots - 1, -1, -1))
        self._members: dict[int, Member] = {}
        self._by_descriptor: dict[int, Member] = {}
        self._idle: deque[Member] = deque()
        self._roomy: deque[Member] = deque()
        self._touched: set[Member] = set()
        self._ahead = 0

    # -- tasks -----------------------------------------------------------------------------------------------------

    def expect(self, mean_seconds: float | None) -> None:
        """Say how long tasks take, which decides how many are sent ahead."""
        self._ahead = prefetch_count(mean_seconds)

    @property
    def room(self) -> int:
        """How many attempts it takes now, at least: 0 only if it takes none."""
        return len(self._idle) + len(self._free) or (self._first_roomy() is not None)

    def start(self, running: RunningAttempt) -> None:
        """Have an attempt made by the process that is the first to get to it."""
        member = self._choose()
        running.slot, running.pid = member.slot, member.pid
        work = running.work
        message = (running.number, member.slot, work.task_id, work.attempt, work.payload, running.scratch, None)
        member.left -= 1
        if member.channel is None:
            member.unsent.append(message)
        else:
            member.channel.put(message)
            self._touched.add(member)
        member.waiting.append(running)
        if member.head is None and member.channel is not None:
            self._begin(member)
        self._offer(member)

    def _begin(self, member: Member) -> None:
        if member.waiting:
            member.head = member.waiting.popleft()
            self._on_begun(member.head)

    def doom(self, running: RunningAttempt) -> int | None:
        """This attempt is to be ended: returns the process to be signalled, which gets no more."""
        assert running.slot is not None
        member = self._members[running.slot]
        member.doomed = running
        return member.pid

    def _choose(self) -> Member:
        if self._idle:
            return self._idle.popleft()
        if self._free:
            slot = self._free.pop()
            member = self._members[slot] = Member(slot, self._reuse)
            self._make(slot)
            return member
        roomy = self._first_roomy()
        assert roomy is not None
        self._roomy.rotate(-1)
        return roomy

    def _first_roomy(self) -> Member | None:
        while self._roomy:
            member = self._roomy[0]
            if member.doomed is None and member.left > 0 and len(member.waiting) < self._ahead:
                return member
            member.has_room = False
            self._roomy.popleft()
        return None

    def _offer(self, member: Member) -> None:
        if member.has_room or member.left == 0 or member.doomed is not None:
            return
        if len(member.waiting) < self._ahead:
            member.has_room = True
            self._roomy.append(member)

    # -- processes -------------------------------------------------------------------------------------------------

    def made(self, slot: int, pid: int, descriptor: int) -> None:
        """The process of a slot is there."""
        member = self._members[slot]
        end: Any = _socket.socket(fileno=descriptor)
        member.pid, member.channel = pid, Channel(end, blocking=False)
        self._by_descriptor[descriptor] = member
        self._poll.register(descriptor, select.POLLIN)
        for running in member.waiting:
            running.pid = pid
        for message in member.unsent:
            member.channel.put(message)
        member.unsent.clear()
        self._touched.add(member)
        self._begin(member)

    def gone(self, slot: int) -> tuple[RunningAttempt | None, list[RunningAttempt]]:
        """The process of a slot has ended; returns what it was doing and is to blame for, and what it had not begun."""
        member = self._members.pop(slot)
        self._read_rest(member)
        self._drop(member)
        self._free.append(slot)
        head, left = member.head, list(member.waiting)
        if head is not None and member.doomed is not None and member.doomed is not head:
            # The signal was for another, which had ended by itself meanwhile.
            return None, [head, *left]
        return head, left

    def all_gone(self) -> list[tuple[RunningAttempt | None, list[RunningAttempt]]]:
        """The template is gone, and all processes with it; returns of each what `gone` does."""
        return [self.gone(slot) for slot in list(self._members)]

    def owns(self, descriptor: int) -> bool:
        return descriptor in self._by_descriptor

    def ready(self, descriptor: int) -> None:
        """Handle a descriptor that the poll reported."""
        member = self._by_descriptor.get(descriptor)
        if member is not None and not self._hear(member):
            # It is about to be reported dead; until then there is nothing to listen to.
            self._unregister(member)

    def flush(self) -> None:
        """Send what was put; what a socket does not take goes when it can."""
        for member in self._touched:
            channel = member.channel
            if channel is None or channel.fileno() not in self._by_descriptor:
                continue
            try:
                channel.flush()
            except ChannelClosedError:
                continue
            self._poll.modify(channel.fileno(), select.POLLIN | select.POLLOUT if channel.unsent else select.POLLIN)
        self._touched = {m for m in self._touched if m.channel is not None and m.channel.unsent}

    def close(self) -> None:
        """Let go of all processes, which ends them."""
        for member in self._members.values():
            self._drop(member)

    def _hear(self, member: Member) -> bool:
        """Take what it has said; False: it will say no more."""
        channel = member.channel
        assert channel is not None
        try:
            messages = channel.get()
        except ChannelClosedError:
            return False
        for number, seconds, has_scratch, tail, content in messages:
            if member.head is None:
                self._begin(member)
            running = member.head
            assert running is not None
            assert running.number == number
            member.head = None
            descriptor = -1 if content is not None else channel.take_descriptor()
            self._on_ended(Ended(running, seconds, has_scratch, tail, content, descriptor))
            if member.doomed is running:
                # It was too late for that one, and may be for the next.
                self._kill(member.pid)
            elif member.doomed is None:
                self._begin(member)
        if messages and member.slot in self._members and member.doomed is None and member.left > 0:
            if member.head is None:
                self._idle.append(member)
            else:
                self._offer(member)
        return True

    def _read_rest(self, member: Member) -> None:
        """What it had still said counts."""
        channel = member.channel
        if channel is None or channel.fileno() not in self._by_descriptor:
            return
        readable = select.poll()
        readable.register(channel.fileno(), select.POLLIN)
        while readable.poll(0):
            if not self._hear(member):
                return

    def _drop(self, member: Member) -> None:
        if member in self._idle:
            self._idle.remove(member)
        if member.has_room:
            self._roomy.remove(member)
            member.has_room = False
        self._touched.discard(member)
        self._unregister(member)
        if member.channel is not None:
            member.channel.close()
            member.channel = None

    def _unregister(self, member: Member) -> None:
        if member.channel is not None and self._by_descriptor.pop(member.channel.fileno(), None) is not None:
            self._poll.unregister(member.channel.fileno())
