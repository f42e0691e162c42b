"""The fork server's children: forking the processes of tasks, their slots, result files and outputs.

Invariants, each with a test:

1. Only small results pass through this process's memory.
2. A slot has at most one task.
3. No process has another attempt's result file open for writing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from gc import freeze
from heapq import heappush
from os import close, pread
from time import monotonic
from typing import Any, NoReturn

from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.common.ipc import Channel, socket_pair
from cloud_tasks.worker.common.memfd import read_only
from cloud_tasks.worker.forkserver.config import ForkserverConfig
from cloud_tasks.worker.forkserver.protocol import ATTEMPT_ENDED, ProcessEnded, ProcessStarted, RunAttempt, encode
from cloud_tasks.worker.forkserver.spawn import execute
from cloud_tasks.worker.task_process.assignment import Assignment
from cloud_tasks.worker.task_process.output_capture import Outputs, tail_of
from cloud_tasks.worker.task_process.report_format import HEADER_LENGTH, NO_HEAD, SIZE_LENGTH
from cloud_tasks.worker.task_process.result_file import SMALL_RESULT, open_result_file, own_failure_report
from cloud_tasks.worker.task_process.reusable_process import run_attempts
from cloud_tasks.worker.task_process.runner import run_attempt

__all__ = ["Child", "Children"]

_USUAL_RESULT = 480
"""Bytes that hold most results, and that Python reads without allocating memory from the system."""
_BOUND_INTERVAL = 1.0
"""Seconds between two checks of the size of outputs."""


class Child:
    """One child process."""

    __slots__ = ("assignment", "gate", "number", "output", "output_is_named", "pid", "result", "slot", "when")

    def __init__(self, number: int, slot: int, output: int | None, is_named: bool) -> None:
        self.number = number
        """Number of the attempt; -1 for a process that runs several."""
        self.slot = slot
        self.output = output
        self.output_is_named = is_named
        self.assignment: Assignment | None = None
        """None for a process that runs several."""
        self.result = -1
        self.gate: int | None = None
        """Eventfd on which the process waits for its slot; None once it runs."""
        self.pid = 0
        self.when = 0.0
        """Time of the start, then of the end (`time.monotonic`)."""


class Children:
    """Children by pid and by attempt, and the free slots.

    Args:
        channel: Descriptor of the connection to the supervisor, which children close: a task could write to it.
    """

    def __init__(self, config: ForkserverConfig, channel: int) -> None:
        self._config = config
        self._channel = channel
        self._pid = os.getpid()
        self.by_pid: dict[int, Child] = {}
        self.running: dict[int, Child] = {}
        """Children that run one task, by the attempt's number."""
        self.free_slots = list(range(config.slots))
        self._outputs = Outputs(log_dir=config.log_dir, capture=config.capture)
        self.bound_at = 0.0 if config.capture else float("inf")
        """Time of the next `bound_outputs` (`time.monotonic`); infinite for none."""

    def prepare(self, message: RunAttempt, slot: int | None) -> Child:
        """Open the files of an attempt's process; with ``slot`` None it is to wait at a gate until it gets one."""
        number, task_id, attempt, payload, scratch = message
        result, gate = open_result_file(), None
        try:
            gate = os.eventfd(0) if slot is None else None
            child = Child(number, slot or 0, *self._outputs.open(task_id, attempt))
        except OSError:
            for descriptor in (result, gate):
                if descriptor is not None:
                    os.close(descriptor)
            raise
        environment = self._config.environments[child.slot]
        child.assignment = Assignment(number, child.slot, task_id, attempt, payload, scratch, environment, child.output)
        child.result, child.gate = result, gate
        return child

    def fork(self, children: Sequence[Child]) -> None:
        """Fork prepared children."""
        # The garbage collector of a task lists its own objects only.
        freeze()
        calls: list[Any] = []
        for child in children:
            calls.append((child, *self._call(child, children)))
        # No other work between the forks: each page that this process writes to after a fork is copied again. Nor in
        # the forked process, which would copy all pages that the work writes to.
        try:
            for child, run, arguments in calls:
                pid = os.fork()
                if not pid:
                    run(*arguments)
                child.pid = pid
        finally:
            for child in children:
                if child.pid:
                    self.by_pid[child.pid] = child
                    child.result = read_only(child.result)

    def _call(self, child: Child, children: Sequence[Child]) -> tuple[Callable[..., NoReturn], tuple[Any, ...]]:
        """Return what the process of a child, which is forked along with ``children``, calls: function and arguments.

        Loops instead of comprehensions, which are functions: see `runner`.
        """
        config, assignment = self._config, child.assignment
        assert assignment is not None
        if config.spawn:
            return self._execute, (assignment, child.result)
        foreign = [self._channel]
        for other in children:
            if other is not child:
                foreign.append(other.result)
                if other.gate is not None:
                    foreign.append(other.gate)
        call = (config.function, config.data, assignment, config.limits, self._pid, child.result, child.output)
        return run_attempt, (*call, foreign, child.gate, config.environments)

    def _execute(self, assignment: Assignment, result: int) -> NoReturn:
        execute(
            self._config.program,
            parent=self._pid,
            output=assignment.output,
            environment=assignment.environment,
            limits=self._config.limits,
            one=(assignment, result),
        )

    def start(self, message: RunAttempt, slot: int) -> Child:
        """Fork the process of an attempt that has a slot. Raise `OSError` if that is impossible; nothing is left."""
        child = self.prepare(message, slot)
        try:
            self.fork([child])
        except OSError:
            self.remove_named_output(child)
            self.close_files(child)
            raise
        return child

    def start_reusable(self, slot: int, channel: Channel) -> None:
        """Fork a process that runs several attempts; send its socket to the supervisor, which assigns them.

        Raises:
            OSError: No process could be started.
        """
        config = self._config
        ours, theirs = socket_pair()
        output = None
        try:
            output = self._outputs.unnamed()
            freeze()
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            self._outputs.close_output(output, False)
            raise
        if pid == 0:
            ours.close()
            os.close(self._channel)
            os.environ.update(config.environments[slot])
            if config.spawn:
                execute(
                    config.program,
                    parent=self._pid,
                    output=output,
                    environment={},
                    limits=config.limits,
                    many=(theirs.fileno(), config.reuse),
                )
            run_attempts(
                config.function,
                config.data,
                parent=self._pid,
                end=Channel(theirs, blocking=True),
                output=output,
                limits=config.limits,
                count=config.reuse,
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
            heappush(self.free_slots, child.slot)

    def report_end(self, child: Child, status: int, channel: Channel) -> None:
        """Put the message about the end of a child, and close its files."""
        if child.number < 0:
            tail = tail_of(child.output) if status != 0 and child.output is not None else b""
            channel.put(encode(ProcessEnded(child.slot, status, tail)))
            self._outputs.close_output(child.output, False)
            return
        content = pread(child.result, _USUAL_RESULT, 0)
        if len(content) == _USUAL_RESULT:
            content = pread(child.result, SMALL_RESULT + 1, 0)
        is_wanted = status != 0 or self._config.data._keeps_output
        if content[SIZE_LENGTH:HEADER_LENGTH] != NO_HEAD:
            head = content[HEADER_LENGTH : HEADER_LENGTH + 64]
            is_wanted = is_wanted or len(content) < HEADER_LENGTH or b'"error"' in head or b'"exited"' in head
        if not content and self._config.spawn and os.WIFEXITED(status):
            reason = RuntimeError(f"exit code {os.WEXITSTATUS(status)} before the program reached its worker")
            content = own_failure_report("cannot run the program again", reason)
        is_small = len(content) <= SMALL_RESULT
        tail = tail_of(child.output) if is_wanted and child.output is not None else b""
        message = (ATTEMPT_ENDED, child.number, status, child.when, content if is_small else None, tail)
        if is_small:
            channel.put(message)
        else:
            channel.put_with_descriptor(message, child.result)
        self.close_files(child)

    def close_files(self, child: Child) -> None:
        """Close the files of a child that has exited or was never forked."""
        if child.gate is not None:
            close(child.gate)
        close(child.result)
        self._outputs.close_output(child.output, child.output_is_named)

    def remove_named_output(self, child: Child) -> None:
        """Remove the log file of a child that never ran."""
        self._outputs.remove_named(child.output, child.output_is_named)

    def bound_outputs(self) -> None:
        """Truncate outputs that are too long."""
        self.bound_at = monotonic() + _BOUND_INTERVAL
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
