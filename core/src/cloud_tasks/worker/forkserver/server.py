"""The fork server: a warm, single-threaded copy of the user's program from which every task process is forked.

It follows the supervisor's messages (`protocol`). Attempts beyond its slots wait here, in order, so that the next
task starts the moment one ends.

Invariants, each with a test:

1. No thread and no library of the supervisor exists here; what is added to the user's program is small.
2. When a task process has ended, whatever it started is killed; when the supervisor is gone, everything is.
3. Attempts are started in the order in which they came.
4. A waiting attempt has not begun: it can be withdrawn, and leaves nothing behind.
"""

from __future__ import annotations

import gc
import heapq
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.common.ipc import Channel, ChannelClosedError
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.forkserver.children import Child, Children
from cloud_tasks.worker.forkserver.config import ForkserverConfig
from cloud_tasks.worker.forkserver.orphans import Orphans
from cloud_tasks.worker.forkserver.prefork import Prefork
from cloud_tasks.worker.forkserver.protocol import (
    AttemptStarted,
    KillAttempt,
    KillProcess,
    Ready,
    RunAttempt,
    StartProcess,
    Withdraw,
    Withdrawn,
    decode,
    encode,
)
from cloud_tasks.worker.forkserver.spawn import SPAWN_ADVICE, other_threads
from cloud_tasks.worker.task_process.runner import rehearse

if TYPE_CHECKING:
    import socket

__all__ = ["run_forkserver"]

_HOLD = 0.01
"""Seconds to buffer messages before flushing, so that completions of short tasks are batched."""
_NEVER = float("inf")
_do_nothing: Callable[[int, Any], Any] = dict[int, Any]().get
"""A signal handler. A Python function would cost each fork the copies of some pages."""


def run_forkserver(end: socket.socket, order: ForkserverConfig) -> None:
    """Serve until the supervisor quits or is gone, then end this process. Never returns."""
    server = _Server(Channel(end, blocking=True), order)
    try:
        server.serve()
    except BaseException as error:
        sys.stderr.write(f"the template of the tasks failed: {type(error).__name__}: {error}\n")
    finally:
        try:
            server.kill_all()
        finally:
            os._exit(0)


class _Server:
    def __init__(self, channel: Channel, order: ForkserverConfig) -> None:
        self._channel = channel
        self._order = order
        self._pid = os.getpid()
        self._children = Children(order)
        self._prefork = Prefork(self._children)
        self._orphans = Orphans()
        self._waiting: deque[RunAttempt] = deque()
        """Attempts to be started when a slot is free."""
        self._flush_at = _NEVER
        """Time by which the channel is flushed; infinite: it is empty."""
        self._quit = False

    def serve(self) -> None:
        process_tree.become_subreaper()
        alarm_out, alarm_in = process_tree.alarm_pipe()
        signal.signal(signal.SIGCHLD, _do_nothing)
        signal.set_wakeup_fd(alarm_in, warn_on_full_buffer=False)
        rehearse(self._order.limits)
        if not self._initialise():
            return
        if not self._order.spawn:
            self._prefork.enable()
        self._orphans.spare_present()
        gc.collect()
        process_tree.give_back_memory()
        gc.freeze()
        try:
            self._loop(alarm_out)
            self._channel.flush()
        except ChannelClosedError:
            return

    def _loop(self, alarm: int) -> None:
        """Follow messages and reap children until the supervisor quits and no child is left."""
        channel, children, orphans, waiting = self._channel, self._children, self._orphans, self._waiting
        poll = select.poll()
        poll.register(channel.fileno(), select.POLLIN)
        poll.register(alarm, select.POLLIN)
        while not (self._quit and not children.by_pid):
            if self._flush_at != _NEVER and time.monotonic() >= self._flush_at:
                channel.flush()
                self._flush_at = _NEVER
            ended: list[tuple[Child, int]] = []
            for descriptor, _ in poll.poll(self._timeout()):
                if descriptor == alarm:
                    os.read(alarm, 1 << 12)
                    ended = self._reap()
                else:
                    self._read()
            # The next tasks start before ended ones are reported: a core would idle meanwhile.
            begun = self._fill()
            for child, status in ended:
                self._report_end(child, status)
            for child in begun:
                self._report_start(child)
            if waiting:
                self._prefork.refill(waiting)
            if orphans.due_at != _NEVER and time.monotonic() >= orphans.due_at:
                orphans.sweep(children.by_pid.keys())
            children.bound_outputs()

    def kill_all(self) -> None:
        """Kill every descendant; does nothing in a forked process."""
        if os.getpid() == self._pid:
            signal.set_wakeup_fd(-1)
            self._children.kill_all()

    def _initialise(self) -> bool:
        problem = ""
        # With spawn, each task process initialises itself.
        if self._order.on_init is not None and not self._order.spawn:
            try:
                self._order.on_init(self._order.data)
            except BaseException:
                import traceback

                problem = traceback.format_exc()
            if self._order.spawn is None and (names := other_threads()):
                Log(verbose=False).warning(f"worker_init left threads ({names}), so {SPAWN_ADVICE}")
                self._order.spawn = True
        self._channel.put(encode(Ready(problem)))
        self._channel.flush()
        return not problem

    def _timeout(self) -> float | None:
        """Return the milliseconds until something is due; None for nothing."""
        due = min(self._flush_at, self._orphans.due_at, self._children.bound_at)
        return None if due == _NEVER else max(0.0, (due - time.monotonic()) * 1000)

    def _read(self) -> None:
        by_pid = self._children.by_pid
        for message in map(decode, self._channel.get()):
            kind = type(message)
            if kind is RunAttempt:
                self._waiting.append(message)
            elif kind is StartProcess:
                self._children.start_reusable(message.slot, self._channel)
            elif kind is KillAttempt:
                child = self._children.running.get(message.number)
                if child is not None:
                    process_tree.kill_group(child.pid, message.signal)
            elif kind is KillProcess:
                # Only while it is a child: another process may have its pid by now.
                if message.pid in by_pid:
                    process_tree.kill_group(message.pid, message.signal)
            elif kind is Withdraw:
                self._channel.put(encode(Withdrawn([waiting.number for waiting in self._waiting])))
                self._forget_waiting()
                self._flush_at = 0.0
            else:
                self._forget_waiting()
                self._quit = True

    def _forget_waiting(self) -> None:
        self._waiting.clear()
        self._prefork.discard()

    def _fill(self) -> list[Child]:
        """Start an attempt in each free slot; return the processes, which the caller reports."""
        begun: list[Child] = []
        waiting, children = self._waiting, self._children
        while waiting and children.free_slots:
            message = waiting.popleft()
            slot = heapq.heappop(children.free_slots)
            when = time.monotonic()
            child = self._prefork.open_gate(message.number, slot)
            if child is None:
                child = children.prepare(message, slot)
                children.fork([child])
            child.when = when
            children.running[child.number] = child
            begun.append(child)
        return begun

    def _reap(self) -> list[tuple[Child, int]]:
        """Reap ended task processes and return them with their statuses; their slots are free.

        What a task left in its group is killed while its pid is still taken, the rest by the next sweep.
        """
        ended: list[tuple[Child, int]] = []
        children = self._children
        while True:
            try:
                reaped = process_tree.reap(children.by_pid)
            except ChildProcessError:
                self._orphans.none_left()
                return ended
            if reaped is None:
                return ended
            pid, status = reaped
            child = children.by_pid.pop(pid, None)
            if child is None:
                self._orphans.helper_ended(pid)
            elif child.gate is not None:
                self._prefork.ended(child)
            else:
                now = time.monotonic()
                children.ended(child, now)
                ended.append((child, status))
                self._orphans.expect(now)

    def _report_start(self, child: Child) -> None:
        self._channel.put(encode(AttemptStarted(child.number, child.slot, child.pid, child.when)))
        self._flush_at = min(self._flush_at, child.when + _HOLD)

    def _report_end(self, child: Child, status: int) -> None:
        self._children.report_end(child, status, self._channel)
        if child.number < 0 or len(self._waiting) <= self._order.slots:
            # The supervisor sends more once it has this message.
            self._flush_at = 0.0
        else:
            self._flush_at = min(self._flush_at, child.when + _HOLD)
