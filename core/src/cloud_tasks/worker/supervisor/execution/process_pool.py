"""Task processes that run several tasks each (``--reuse-processes``), as the supervisor sees them.

The fork server starts a process and passes its socket to the supervisor, which assigns tasks over it directly. A few
tasks of milliseconds are sent in advance, so that neither end waits for the other.

Invariants, each with a test:

1. A process runs its tasks in the order in which they were sent; its death fails only the task that it was running.
2. Tasks that were sent to a process and not started when it died are returned, as if they had never been sent.
3. A process whose task has written to its connection is killed; that task has exited without a result. A second report
   about an earlier task does not count against the task that was sent next.
4. Tasks wait for a process only if they take a few milliseconds at most.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from cloud_tasks.worker.common.ipc import ChannelClosedError
from cloud_tasks.worker.common.private_api import open_socket
from cloud_tasks.worker.consumers.attempt_types import RunningAttempt
from cloud_tasks.worker.supervisor.event_loop import EventLoop, LoopChannel
from cloud_tasks.worker.supervisor.execution.prefetch import prefetch_count
from cloud_tasks.worker.task_process.output_capture import MAX_TAIL
from cloud_tasks.worker.task_process.report_format import HEADER_LENGTH
from cloud_tasks.worker.task_process.result_file import receive_result

__all__ = ["ProcessPool"]

_DAMAGED_REPORT = bytes(HEADER_LENGTH)
"""Report of an attempt whose process was killed because its connection was broken."""
_REPORT = (int, float, bool, bytes, bytes)
"""Types of the message about the end of an attempt: number, seconds, whether it has scratch, end of output, report."""
_LONG_REPORT = (*_REPORT[:-1], type(None))
"""Types of that message if the report comes as a descriptor."""
_MAX_MESSAGE = 1 << 20
"""Bytes of such a message at most."""
_PREFETCH_SECONDS = 0.01
"""Duration of the tasks that a process is sent in advance."""


class _Process:
    """One task process."""

    __slots__ = (
        "channel",
        "current",
        "has_room",
        "is_broken",
        "pid",
        "remaining",
        "reported",
        "signalled_for",
        "slot",
        "unsent",
        "waiting",
    )

    def __init__(self, slot: int, remaining: int) -> None:
        self.slot = slot
        self.remaining = remaining
        """Number of tasks that may still be sent to it."""
        self.pid: int | None = None
        self.channel: LoopChannel | None = None
        """None until the fork server has started it."""
        self.current: RunningAttempt | None = None
        """The attempt that it runs."""
        self.waiting: deque[RunningAttempt] = deque()
        """Attempts that it will run next."""
        self.reported = -1
        """Number of the last attempt that it has reported."""
        self.unsent: list[Any] = []
        """Messages from before it was started."""
        self.signalled_for: RunningAttempt | None = None
        """The attempt for which it was signalled; it gets no more tasks then."""
        self.is_broken = False
        """Whether it was killed because its task has written to the connection."""
        self.has_room = False
        """Whether it is among the processes with prefetch capacity."""


class ProcessPool:
    """The reusable task processes. Used in the supervisor's loop only.

    Args:
        slots: Maximum number of processes.
        reuse: Number of tasks per process.
        start_process: Asks the fork server for the process of a slot.
        on_started: Called with each attempt that its process starts to run.
        on_ended: Called with (attempt, wait status 0, report, end of its output, seconds, whether it has scratch).
        kill: Kills a process.
    """

    def __init__(
        self,
        loop: EventLoop,
        *,
        slots: int,
        reuse: int,
        start_process: Callable[[int], None],
        on_started: Callable[[RunningAttempt], None],
        on_ended: Callable[[RunningAttempt, int, bytes, bytes, float, bool], None],
        kill: Callable[[int | None], None],
    ) -> None:
        self._loop = loop
        self._reuse = reuse
        self._start_process = start_process
        self._on_started = on_started
        self._on_ended = on_ended
        self._kill = kill
        self._free_slots = list(range(slots - 1, -1, -1))
        self._processes: dict[int, _Process] = {}
        self._idle: deque[_Process] = deque()
        self._with_room: deque[_Process] = deque()
        self._to_flush: set[_Process] = set()
        self._prefetch = 0
        self._spared: set[str] = set()
        """Tasks that were returned because an earlier task of their process had written to its connection."""

    # -- tasks -----------------------------------------------------------------------------------------------------

    def expect(self, mean_seconds: float | None) -> None:
        """Set the expected duration of a task, which decides how many are prefetched; None if it is unknown."""
        self._prefetch = prefetch_count(mean_seconds, seconds=_PREFETCH_SECONDS)

    @property
    def capacity(self) -> int:
        """Lower bound of the number of attempts that can be submitted now; 0 only for none."""
        free = len(self._idle) + len(self._free_slots)
        if free or (process := self._first_with_room()) is None:
            return free
        return min(process.remaining, self._prefetch - len(process.waiting))

    def submit(self, attempt: RunningAttempt) -> None:
        """Assign an attempt to an idle process, a new one, or the next with prefetch capacity."""
        process = self._choose()
        attempt.slot, attempt.pid = process.slot, process.pid
        work = attempt.work
        message = (attempt.number, process.slot, work.task_id, work.attempt, work.payload, attempt.scratch, None)
        process.remaining -= 1
        process.waiting.append(attempt)
        channel = process.channel
        if channel is None:
            process.unsent.append(message)
        else:
            channel.put(message)
            self._to_flush.add(process)
            if process.current is None:
                self._start_next(process)
        if not process.has_room:
            self._offer(process)

    def mark_signalled(self, attempt: RunningAttempt) -> int | None:
        """Send no more tasks to the process of an attempt that is to be ended; return its pid."""
        assert attempt.slot is not None
        process = self._processes[attempt.slot]
        process.signalled_for = attempt
        return process.pid

    def _start_next(self, process: _Process) -> None:
        if process.waiting:
            attempt = process.current = process.waiting.popleft()
            attempt.started = time.monotonic()
            self._on_started(attempt)

    def _choose(self) -> _Process:
        if self._idle:
            return self._idle.popleft()
        if self._free_slots:
            slot = self._free_slots.pop()
            process = self._processes[slot] = _Process(slot, self._reuse)
            self._start_process(slot)
            return process
        chosen = self._first_with_room()
        assert chosen is not None
        self._with_room.rotate(-1)
        return chosen

    def _first_with_room(self) -> _Process | None:
        while self._with_room:
            process = self._with_room[0]
            if process.signalled_for is None and process.remaining > 0 and len(process.waiting) < self._prefetch:
                return process
            process.has_room = False
            self._with_room.popleft()
        return None

    def _offer(self, process: _Process) -> None:
        if process.has_room or process.remaining == 0 or process.signalled_for is not None:
            return
        if len(process.waiting) < self._prefetch:
            process.has_room = True
            self._with_room.append(process)

    # -- processes -------------------------------------------------------------------------------------------------

    def connect(self, slot: int, pid: int, descriptor: int) -> None:
        """Use the process that the fork server has started for a slot."""
        process = self._processes[slot]
        process.pid = pid
        process.channel = LoopChannel(
            open_socket(descriptor), self._loop, lambda: self._on_readable(process), max_message=_MAX_MESSAGE
        )
        for attempt in process.waiting:
            attempt.pid = pid
        for message in process.unsent:
            process.channel.put(message)
        process.unsent.clear()
        self._to_flush.add(process)
        self._start_next(process)

    def remove(self, slot: int) -> tuple[RunningAttempt | None, list[RunningAttempt]]:
        """Forget the exited process of a slot; return the attempt that failed with it and those it had not started."""
        process = self._processes.pop(slot)
        self._read_rest(process)
        self._drop(process)
        self._free_slots.append(slot)
        current, unstarted = process.current, list(process.waiting)
        if current is not None and process.signalled_for is not None and process.signalled_for is not current:
            # The signal was meant for an attempt that ended by itself before it arrived.
            return None, [current, *unstarted]
        if current is not None and process.is_broken and not current.cause:
            self._on_ended(current, 0, _DAMAGED_REPORT, b"", time.monotonic() - current.started, True)
            return None, unstarted
        return current, unstarted

    def reset(self) -> list[tuple[RunningAttempt | None, list[RunningAttempt]]]:
        """Forget all processes, which have exited; return for each what `remove` returns."""
        return [self.remove(slot) for slot in list(self._processes)]

    def flush(self) -> None:
        """Send the messages to all processes, as far as their sockets accept them."""
        processes = self._to_flush
        if not processes:
            return
        self._to_flush = set()
        for process in processes:
            channel = process.channel
            if channel is not None and channel.is_watched:
                try:
                    channel.flush()
                except ChannelClosedError:
                    continue
                if channel.unsent:
                    self._to_flush.add(process)

    def close(self) -> None:
        """Close the connections, on which all processes exit."""
        for process in self._processes.values():
            self._drop(process)

    def _on_readable(self, process: _Process) -> None:
        if not self._receive(process) and process.channel is not None:
            # The fork server is about to report its end.
            process.channel.unwatch()

    def _receive(self, process: _Process) -> bool:
        """Handle the reports of a process; return False once its end of the socket is closed."""
        channel = process.channel
        assert channel is not None
        try:
            messages = channel.get()
        except ChannelClosedError:
            if channel.is_broken:
                self._kill_broken(process, None)
            return False
        for message in messages:
            if process.current is None:
                self._start_next(process)
            attempt = process.current
            if attempt is None or not _is_report(message, channel.has_descriptor) or message[0] != attempt.number:
                self._kill_broken(process, message)
                return False
            process.reported, seconds, has_scratch, tail, content = message
            process.current = None
            now = time.monotonic()
            # The clock of the process may be one that a task has replaced.
            if not 0.0 <= seconds <= now - attempt.submitted:
                seconds = now - attempt.started
            if content is None:
                content = receive_result(channel.take_descriptor)
            self._on_ended(attempt, 0, content, tail, seconds, has_scratch)
            if process.signalled_for is attempt:
                # The signal was too late for this attempt and may end the next one.
                self._kill(process.pid)
            elif process.signalled_for is None:
                self._start_next(process)
        if messages and process.slot in self._processes and process.signalled_for is None and process.remaining > 0:
            if process.current is None:
                self._idle.append(process)
            else:
                self._offer(process)
        return True

    def _kill_broken(self, process: _Process, message: Any) -> None:
        """Kill a process that has sent no report, or that of another attempt; it gets no more tasks."""
        process.is_broken = True
        process.remaining = 0
        attempt = process.current
        is_second = process.reported >= 0 and type(message) is tuple and message[:1] == (process.reported,)
        if attempt is not None and is_second:
            # The earlier attempt's own report, after one that its task has written. Once, for this may be such a task.
            task_id = attempt.work.task_id
            if task_id not in self._spared:
                self._spared.add(task_id)
                process.waiting.appendleft(attempt)
                process.current = None
        if process in self._idle:
            self._idle.remove(process)
        self._kill(process.pid)

    def _read_rest(self, process: _Process) -> None:
        """Handle the reports that a process sent before it exited."""
        channel = process.channel
        if channel is None or not channel.is_watched:
            return
        readable = select.poll()
        readable.register(channel.fileno(), select.POLLIN)
        while readable.poll(0):
            if not self._receive(process):
                return

    def _drop(self, process: _Process) -> None:
        if process in self._idle:
            self._idle.remove(process)
        if process.has_room:
            self._with_room.remove(process)
            process.has_room = False
        self._to_flush.discard(process)
        if process.channel is not None:
            process.channel.close()
            process.channel = None


def _is_report(message: Any, has_descriptor: bool) -> bool:
    """Return whether a message has the fields of a report, of their types: a task may have written it."""
    if type(message) is not tuple:
        return False
    types = tuple(map(type, message))
    return (types == _REPORT or (types == _LONG_REPORT and has_descriptor)) and len(message[3]) <= MAX_TAIL
