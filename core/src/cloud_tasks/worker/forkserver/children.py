"""The fork server's children: forked, looked up, reaped, with their result files and outputs.

Invariants, each with a test:

1. No result passes through this process's memory unless it is small.
2. A slot has at most one task.
"""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Sequence
from typing import NoReturn

from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.common.ipc import Channel, socket_pair
from cloud_tasks.worker.forkserver.config import ForkserverConfig
from cloud_tasks.worker.forkserver.protocol import AttemptEnded, ProcessEnded, ProcessStarted, RunAttempt, encode
from cloud_tasks.worker.forkserver.spawn import execute
from cloud_tasks.worker.task_process.output_capture import Outputs, tail_of
from cloud_tasks.worker.task_process.runner import SMALL_RESULT, Assignment, open_channel, run_attempt, run_attempts

__all__ = ["Child", "Children"]

_USUAL_RESULT = 480
"""Bytes that hold most results, and that Python reads without asking the system for memory."""
_BOUND_INTERVAL = 1.0
"""Seconds between two checks of how much running tasks have printed."""


class Child:
    """One child process."""

    __slots__ = ("gate", "message", "number", "output", "output_is_named", "pid", "result", "slot", "when")

    def __init__(self, number: int, slot: int, output: int | None, is_named: bool) -> None:
        self.number = number
        """-1: it runs several tasks."""
        self.slot = slot
        self.output = output
        self.output_is_named = is_named
        self.message: RunAttempt | None = None
        """None: it runs several tasks."""
        self.result = -1
        self.gate: int | None = None
        """None: it has begun."""
        self.pid = 0
        self.when = 0.0
        """Start (`time.monotonic`), then the time at which its end was seen."""


class Children:
    """The tables of children and the free slots."""

    def __init__(self, order: ForkserverConfig) -> None:
        self._order = order
        self._pid = os.getpid()
        self.by_pid: dict[int, Child] = {}
        self.running: dict[int, Child] = {}
        """Children that run one task, by the attempt's number."""
        self.free_slots = list(range(order.slots))
        self._outputs = Outputs(log_dir=order.log_dir, capture=order.capture)
        self._bound_at = 0.0

    def prepare(self, message: RunAttempt, slot: int | None) -> Child:
        """Open what an assignment's process needs; ``slot`` None: it waits at a gate until it is given one."""
        result, gate = open_channel(), None
        try:
            gate = os.eventfd(0) if slot is None else None
            child = Child(message.number, slot or 0, *self._outputs.open(message.task_id, message.attempt))
        except OSError:
            for descriptor in (result, gate):
                if descriptor is not None:
                    os.close(descriptor)
            raise
        child.message, child.result, child.gate = message, result, gate
        return child

    def fork(self, children: Sequence[Child]) -> None:
        """Fork prepared children, in a row."""
        # Nothing else between the forks: what this process writes to after each is copied anew.
        try:
            for child in children:
                pid = os.fork()
                if pid == 0:
                    self._become(child)
                child.pid = pid
        finally:
            self.by_pid.update((child.pid, child) for child in children if child.pid)

    def _become(self, child: Child) -> NoReturn:
        """Run the attempt in this process, forked for it."""
        order = self._order
        assert child.message is not None
        number, task_id, attempt, payload, scratch = child.message
        environment = order.environments[child.slot]
        assignment = Assignment(number, child.slot, task_id, attempt, payload, scratch, environment)
        if order.spawn:
            execute(
                order.program,
                parent=self._pid,
                output=child.output,
                environment=environment,
                limits=order.limits,
                one=(assignment, child.result),
            )
        run_attempt(
            order.function,
            order.data,
            assignment,
            parent=self._pid,
            result=child.result,
            output=child.output,
            limits=order.limits,
            gate=None if child.gate is None else (child.gate, order.environments),
        )

    def start_reusable(self, slot: int, channel: Channel) -> None:
        """Fork a process that runs several tasks; send its socket to the supervisor, which assigns them."""
        order = self._order
        ours, theirs = socket_pair()
        output = self._outputs.unnamed()
        pid = os.fork()
        if pid == 0:
            ours.close()
            os.environ.update(order.environments[slot])
            if order.spawn:
                execute(
                    order.program,
                    parent=self._pid,
                    output=output,
                    environment={},
                    limits=order.limits,
                    many=(theirs.fileno(), order.reuse),
                )
            run_attempts(
                order.function,
                order.data,
                parent=self._pid,
                end=Channel(theirs, blocking=True),
                output=output,
                limits=order.limits,
                count=order.reuse,
            )
        theirs.close()
        child = self.by_pid[pid] = Child(-1, slot, output, False)
        child.pid = pid
        channel.put_with_descriptor(encode(ProcessStarted(slot, pid)), ours.fileno())
        ours.close()

    def ended(self, child: Child, when: float) -> None:
        """Free the slot of a reaped child."""
        child.when = when
        if child.number >= 0:
            del self.running[child.number]
            heapq.heappush(self.free_slots, child.slot)

    def report_end(self, child: Child, status: int, channel: Channel) -> None:
        """Put the message that a child has ended, and close its files."""
        if child.number < 0:
            tail = tail_of(child.output) if status != 0 and child.output is not None else b""
            channel.put(encode(ProcessEnded(child.slot, status, tail)))
            self._outputs.give_back(child.output, False)
            return
        content = os.pread(child.result, _USUAL_RESULT, 0)
        if len(content) == _USUAL_RESULT:
            content = os.pread(child.result, SMALL_RESULT + 1, 0)
        failed = status != 0 or not content or b'"error"' in content[:64]
        is_small = len(content) <= SMALL_RESULT
        tail = tail_of(child.output) if failed and child.output is not None else b""
        message = encode(AttemptEnded(child.number, status, child.when, content if is_small else None, tail))
        if is_small:
            channel.put(message)
        else:
            channel.put_with_descriptor(message, child.result)
        self.put_away(child)

    def put_away(self, child: Child) -> None:
        """Close the files of a child that has ended or was never forked."""
        if child.gate is not None:
            os.close(child.gate)
        os.close(child.result)
        self._outputs.give_back(child.output, child.output_is_named)

    def unname_output(self, child: Child) -> None:
        """Remove the log file of a child that never ran."""
        self._outputs.unname(child.output, child.output_is_named)

    @property
    def bound_at(self) -> float:
        """Time of the next `bound_outputs` (`time.monotonic`); infinite if no output is captured."""
        return self._bound_at if self._order.capture and self.by_pid else float("inf")

    def bound_outputs(self) -> None:
        """Cut outputs that have become too long, at most once a second."""
        now = time.monotonic()
        if now < self._bound_at:
            return
        self._bound_at = now + _BOUND_INTERVAL
        for child in self.by_pid.values():
            self._outputs.bound(child.output, child.output_is_named)

    def kill_all(self) -> None:
        """Kill every descendant, including those started meanwhile."""
        while True:
            for pid in list(self.by_pid):
                process_tree.kill_group(pid)
            for pid in process_tree.children_of(self._pid):
                process_tree.kill(pid)
            try:
                pid, _ = os.waitpid(-1, 0)
            except ChildProcessError:
                return
            self.by_pid.pop(pid, None)
