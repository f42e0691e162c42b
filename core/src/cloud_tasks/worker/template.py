"""The template: a warm, single-threaded copy of the user's program from which every task process is forked.

It obeys the supervisor, message by message (`messages`). What it is told to run beyond its slots waits
here, in order, so that the next task starts the moment one ends. On Linux the first of what waits have their processes
already, each at a gate that opens when there is a slot for it: no processor waits for a fork, and forks in a row share
the cost of what the template does between them.

Invariants, each with a test:

1. No thread and no library of the supervisor exists here; what the template adds to the user's program is small.
2. When a task process has ended, whatever it started is killed; when the supervisor is gone, everything is.
3. No result passes through this process's memory unless it is small.
4. A slot has at most one task, and tasks are started in the order in which they came.
5. What waits has not begun: it can be taken back, and leaves nothing behind.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from cloud_tasks.worker import process_tree
from cloud_tasks.worker.attempt import (
    SMALL_RESULT,
    Assignment,
    open_channel,
    rehearse,
    run_attempt,
    run_attempts,
)
from cloud_tasks.worker.channel import Channel, Closed, socket_pair
from cloud_tasks.worker.log import Log
from cloud_tasks.worker.messages import (
    CHILD,
    ENDED,
    GONE,
    KILL,
    KILL_PID,
    PROCESS,
    READY,
    RUN,
    STARTED,
    WITHDRAW,
    WITHDRAWN,
)
from cloud_tasks.worker.order import TemplateOrder
from cloud_tasks.worker.outputs import Outputs, tail_of
from cloud_tasks.worker.spawned import SPAWN_ADVICE, execute, other_threads

if TYPE_CHECKING:
    import socket

__all__ = ["run_template"]


_SWEEP = 0.05
"""Seconds between two looks for orphans, at least."""
_SWEEP_SHARE = 100
"""How many times longer than a look the time between two is, at least: where thousands of processes run."""
_HOLD = 0.01
"""Seconds for which a word waits for company: that a short task has ended, most of all."""
_MOSTLY = 480
"""Bytes that hold most results, and that Python has room for without asking for memory."""
_BOUND = 1.0
"""Seconds between two looks at how much running tasks have printed."""
_PROCESSES_AHEAD = 2 if hasattr(os, "eventfd") else 0
"""How many are forked in a row for what waits. Of 1, 2, 4 and 8, on two cores, the one with the least time per task:
fewer cost more of the template's memory, and no gate opens while more are forked."""
_do_nothing: Callable[[int, Any], Any] = dict[int, Any]().get
"""A signal's handler. A function of Python's own would cost each fork the copies of some pages."""


class _Child:
    __slots__ = ("gate", "message", "number", "output", "output_is_named", "pid", "result", "slot", "when")

    def __init__(self, number: int, slot: int, output: int | None, is_named: bool) -> None:
        self.number = number
        """-1: it does several tasks."""
        self.slot = slot
        self.output = output
        self.output_is_named = is_named
        self.message: tuple[Any, ...] = ()
        self.result = -1
        self.gate: int | None = None
        """None: it has begun."""
        self.pid = 0
        self.when = 0.0
        """When it was started, or, after that, when its end was seen."""


def run_template(end: socket.socket, order: TemplateOrder) -> None:
    """Serve until told to quit or the supervisor is gone, then end this process; never returns."""
    template = _Template(Channel(end, blocking=True), order)
    try:
        template.serve()
    except BaseException as error:
        sys.stderr.write(f"the template of the tasks failed: {type(error).__name__}: {error}\n")
    finally:
        try:
            template.kill_all()
        finally:
            os._exit(0)


class _Template:
    def __init__(self, channel: Channel, order: TemplateOrder) -> None:
        self._channel = channel
        self._order = order
        self._pid = os.getpid()
        self._poll = select.poll()
        self._by_pid: dict[int, _Child] = {}
        self._by_number: dict[int, _Child] = {}
        self._helpers: set[int] = set()
        """What `worker_init` started and tasks may use."""
        self._free = list(range(order.slots))
        self._waiting: deque[tuple[Any, ...]] = deque()
        """What is to be run when a slot is free."""
        self._at_gate: dict[int, _Child] = {}
        """The processes that some of it has already, by number."""
        self._processes_ahead = 0
        self._outputs = Outputs(log_dir=order.log_dir, capture=order.capture)
        self._sweep_at: float | None = None
        self._last_sweep = 0.0
        self._sweep_cost = 0.0
        self._bound_at = 0.0
        self._say_at: float | None = None
        """When what waits in the channel is to be sent at the latest; None: nothing waits."""
        self._quit = False

    def serve(self) -> None:
        process_tree.become_subreaper()
        alarm_out, alarm_in = process_tree.alarm_pipe()
        signal.signal(signal.SIGCHLD, _do_nothing)
        signal.set_wakeup_fd(alarm_in, warn_on_full_buffer=False)
        rehearse(self._order.limits)
        if not self._initialise():
            return
        self._processes_ahead = 0 if self._order.spawn else _PROCESSES_AHEAD
        self._helpers = set(process_tree.children_of(self._pid))
        gc.collect()
        process_tree.give_back_memory()
        gc.freeze()
        poll = self._poll
        poll.register(self._channel.fileno(), select.POLLIN)
        poll.register(alarm_out, select.POLLIN)
        try:
            while not (self._quit and not self._by_pid):
                if self._say_at is not None and time.monotonic() >= self._say_at:
                    self._channel.flush()
                    self._say_at = None
                ended: list[tuple[_Child, int]] = []
                for descriptor, _ in poll.poll(self._patience()):
                    if descriptor == alarm_out:
                        os.read(alarm_out, 1 << 12)
                        ended = self._reap()
                    elif descriptor == self._channel.fileno():
                        self._obey()
                # What is next starts before what has ended is told: a core would idle meanwhile.
                begun = self._fill()
                for child, status in ended:
                    self._tell_end(child, status)
                for child in begun:
                    self._tell_begin(child)
                if self._waiting and not self._at_gate and self._processes_ahead:
                    self._fork_ahead()
                if self._sweep_at is not None and time.monotonic() >= self._sweep_at:
                    self._sweep()
                if time.monotonic() >= self._bound_at:
                    self._bound_outputs()
            self._channel.flush()
        except Closed:
            return

    def kill_all(self) -> None:
        """Kill every descendant, those included that are started meanwhile."""
        if os.getpid() != self._pid:
            return
        signal.set_wakeup_fd(-1)
        while True:
            for pid in list(self._by_pid):
                process_tree.kill_group(pid)
            children = process_tree.children_of(self._pid)
            for pid in children:
                process_tree.kill(pid)
            try:
                pid, _ = os.waitpid(-1, 0)
            except ChildProcessError:
                return
            self._by_pid.pop(pid, None)

    def _initialise(self) -> bool:
        problem = ""
        # A task that is a fresh interpreter is prepared there.
        if self._order.on_init is not None and not self._order.spawn:
            try:
                self._order.on_init(self._order.data)
            except BaseException:
                import traceback

                problem = traceback.format_exc()
            if self._order.spawn is None and (names := other_threads()):
                Log(verbose=False).warning(f"worker_init left threads ({names}), so {SPAWN_ADVICE}")
                self._order.spawn = True
        self._channel.put((READY, problem))
        self._channel.flush()
        return not problem

    def _patience(self) -> float | None:
        """Milliseconds that may be slept; None: until something happens."""
        due = self._say_at
        if self._sweep_at is not None and (due is None or self._sweep_at < due):
            due = self._sweep_at
        if self._order.capture and self._by_pid and (due is None or self._bound_at < due):
            due = self._bound_at
        return None if due is None else max(0.0, (due - time.monotonic()) * 1000)

    def _obey(self) -> None:
        for message in self._channel.get():
            if message[0] == RUN:
                self._waiting.append(message)
            elif message[0] == PROCESS:
                self._start_reusable(message[1])
            elif message[0] == KILL:
                child = self._by_number.get(message[1])
                if child is not None:
                    process_tree.kill_group(child.pid, message[2])
            elif message[0] == KILL_PID:
                # Only while it is ours: its number may be another's by now.
                if message[1] in self._by_pid:
                    process_tree.kill_group(message[1], message[2])
            elif message[0] == WITHDRAW:
                self._withdraw()
            else:
                self._forget_waiting()
                self._quit = True

    def _withdraw(self) -> None:
        self._channel.put((WITHDRAWN, [message[1] for message in self._waiting]))
        self._forget_waiting()
        self._say_at = 0.0

    def _forget_waiting(self) -> None:
        self._waiting.clear()
        for child in self._at_gate.values():
            process_tree.kill_group(child.pid)
            self._outputs.unname(child.output, child.output_is_named)
        self._at_gate.clear()

    def _fill(self) -> list[_Child]:
        """Start what there is a slot for; the caller tells of it."""
        begun: list[_Child] = []
        while self._waiting and self._free:
            message = self._waiting.popleft()
            slot = heapq.heappop(self._free)
            when = time.monotonic()
            child = self._at_gate.pop(message[1], None)
            if child is None:
                child = self._child_for(message, slot)
                self._fork([child])
            else:
                self._open_gate(child, slot)
            child.when = when
            self._by_number[child.number] = child
            begun.append(child)
        return begun

    def _fork_ahead(self) -> None:
        """Make processes for the first of what waits."""
        children: list[_Child] = []
        try:
            for message in itertools.islice(self._waiting, self._processes_ahead):
                children.append(self._child_for(message, None))
            self._fork(children)
        except OSError:
            # There are as many processes or open files as may be: slots come first.
            self._processes_ahead = 0
        for child in children:
            if child.pid:
                self._at_gate[child.number] = child
            else:
                self._outputs.unname(child.output, child.output_is_named)
                self._put_away(child)

    def _child_for(self, message: tuple[Any, ...], slot: int | None) -> _Child:
        """What is known of an assignment's process before the fork; ``slot`` None: it will be told which it has."""
        result, gate = open_channel(), None
        try:
            gate = os.eventfd(0) if slot is None else None
            child = _Child(message[1], slot or 0, *self._outputs.open(message[2], message[3]))
        except OSError:
            for descriptor in (result, gate):
                if descriptor is not None:
                    os.close(descriptor)
            raise
        child.message, child.result, child.gate = message, result, gate
        return child

    def _fork(self, children: Sequence[_Child]) -> None:
        # Nothing else between the forks: what this process writes to after each is copied anew.
        try:
            for child in children:
                pid = os.fork()
                if pid == 0:
                    self._become(child)
                child.pid = pid
        finally:
            self._by_pid.update((child.pid, child) for child in children if child.pid)

    def _open_gate(self, child: _Child, slot: int) -> None:
        assert child.gate is not None
        child.slot = slot
        os.eventfd_write(child.gate, slot + 1)
        os.close(child.gate)
        child.gate = None

    def _become(self, child: _Child) -> NoReturn:
        """Be the attempt's process, having been forked for it."""
        order = self._order
        _, number, task_id, attempt, payload, scratch = child.message
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

    def _tell_begin(self, child: _Child) -> None:
        self._channel.put((STARTED, child.number, child.slot, child.pid, child.when))
        if self._say_at is None:
            self._say_at = child.when + _HOLD

    def _start_reusable(self, slot: int) -> None:
        """Make a process that does several tasks; the supervisor, which is given its socket, tells it which."""
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
        child = self._by_pid[pid] = _Child(-1, slot, output, False)
        child.pid = pid
        self._channel.put_with_descriptor((CHILD, slot, pid), ours.fileno())
        ours.close()

    def _reap(self) -> list[tuple[_Child, int]]:
        """The processes of tasks that have ended, with their statuses; their slots are free.

        What a task left in its group is killed while its pid is still taken, the rest by the next sweep.
        """
        ended: list[tuple[_Child, int]] = []
        while True:
            try:
                reaped = process_tree.reap(self._by_pid)
            except ChildProcessError:
                self._sweep_at = None
                break
            if reaped is None:
                break
            pid, status = reaped
            child = self._by_pid.pop(pid, None)
            if child is None:
                self._helpers.discard(pid)
                continue
            if child.gate is not None:
                # It never began: what it was for was taken back, or still waits.
                if self._at_gate.get(child.number) is child:
                    del self._at_gate[child.number]
                    # Something killed it, and might kill the next.
                    self._processes_ahead = 0
                self._put_away(child)
                continue
            ended.append((child, status))
            now = child.when = time.monotonic()
            if child.number >= 0:
                del self._by_number[child.number]
                heapq.heappush(self._free, child.slot)
            if self._sweep_at is None:
                pause = max(_SWEEP, _SWEEP_SHARE * self._sweep_cost)
                self._sweep_at = max(now, self._last_sweep + pause)
        return ended

    def _put_away(self, child: _Child) -> None:
        if child.gate is not None:
            os.close(child.gate)
        os.close(child.result)
        self._outputs.give_back(child.output, child.output_is_named)

    def _tell_end(self, child: _Child, status: int) -> None:
        if child.number < 0:
            self._tell_gone(child, status)
            return
        content = os.pread(child.result, _MOSTLY, 0)
        if len(content) == _MOSTLY:
            content = os.pread(child.result, SMALL_RESULT + 1, 0)
        failed = status != 0 or not content or b'"error"' in content[:64]
        is_small = len(content) <= SMALL_RESULT
        tail = tail_of(child.output) if failed and child.output is not None else b""
        message = (ENDED, child.number, status, child.when, content if is_small else None, tail)
        if is_small:
            self._channel.put(message)
        else:
            self._channel.put_with_descriptor(message, child.result)
        if len(self._waiting) <= self._order.slots:
            # The supervisor sends more when it knows of this.
            self._say_at = 0.0
        elif self._say_at is None:
            self._say_at = child.when + _HOLD
        self._put_away(child)

    def _tell_gone(self, child: _Child, status: int) -> None:
        tail = tail_of(child.output) if status != 0 and child.output is not None else b""
        self._channel.put((GONE, child.slot, status, tail))
        self._say_at = 0.0
        self._outputs.give_back(child.output, False)

    def _sweep(self) -> None:
        """Kill what ended tasks left behind: children that are no task, no helper. Theirs become ours, and go too."""
        began = time.monotonic()
        known = self._by_pid.keys() | self._helpers
        orphans = [pid for pid in process_tree.children_of(self._pid) if pid not in known]
        for pid in orphans:
            process_tree.kill(pid)
        self._last_sweep = time.monotonic()
        self._sweep_cost = self._last_sweep - began
        self._sweep_at = self._last_sweep + self._sweep_cost if orphans else None

    def _bound_outputs(self) -> None:
        self._bound_at = time.monotonic() + _BOUND
        for child in self._by_pid.values():
            self._outputs.bound(child.output, child.output_is_named)
