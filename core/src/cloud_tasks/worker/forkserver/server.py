"""The fork server: a single-threaded copy of the user's program from which all task processes are forked.

It handles the supervisor's messages (`protocol`). Attempts beyond its slots wait here, in order, so that the next one
starts as soon as a slot is free.

Invariants, each with a test:

1. This process has no threads and no modules of the supervisor; it adds little to the user's program.
2. Once a task process has exited, all processes that it started are killed; once the supervisor has, all are.
3. Attempts start in the order in which they were submitted.
4. A waiting attempt has not started: it can be withdrawn and leaves no process and no file.
5. A process that cannot be started ends no attempt: the attempt goes back to the supervisor, with the system's reason.
6. Whatever ``worker_init`` does with signals, the ends of task processes are noticed.
7. A supervisor that exits first, or an interrupt, is no failure of this process and is not reported as one.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from time import monotonic
from typing import TYPE_CHECKING, Any

from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.common.ipc import Channel, ChannelClosedError
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.common.os_errors import os_error_text
from cloud_tasks.worker.forkserver.children import Child, Children
from cloud_tasks.worker.forkserver.config import ForkserverConfig
from cloud_tasks.worker.forkserver.orphans import Orphans
from cloud_tasks.worker.forkserver.prefork import Prefork
from cloud_tasks.worker.forkserver.protocol import (
    ATTEMPT_STARTED,
    UNKNOWN_STATUS,
    Failed,
    KillAttempt,
    KillProcess,
    Ping,
    Ready,
    RunAttempt,
    StartFailed,
    StartProcess,
    Withdraw,
    Withdrawn,
    decode,
    encode,
)
from cloud_tasks.worker.forkserver.spawn import SPAWN_ADVICE, TASK_MARK, other_threads
from cloud_tasks.worker.task_process.exception_report import note_outputs
from cloud_tasks.worker.task_process.process_end import flush_files, own_from_now_on
from cloud_tasks.worker.task_process.process_setup import refuse_signals
from cloud_tasks.worker.task_process.runner import warm_up

if TYPE_CHECKING:
    import socket

__all__ = ["run_forkserver"]

_FLUSH_DELAY = 0.01
"""Seconds to buffer messages before flushing, so that the ends of short tasks are reported together."""
_NEVER = float("inf")
_do_nothing: Callable[[int, Any], Any] = dict[int, Any]().get
"""Signal handler. With a Python function each fork would copy more pages."""


def run_forkserver(end: socket.socket, config: ForkserverConfig) -> None:
    """Serve until the supervisor sends `Quit` or exits, then exit. Never returns."""
    server = _Server(Channel(end, blocking=True), config)
    try:
        server.serve()
    except (ChannelClosedError, KeyboardInterrupt):
        # The supervisor has exited, or receives the interrupt as well.
        pass
    except BaseException as error:
        server.report_failure(f"{type(error).__name__}: {error}")
    finally:
        try:
            server.kill_all()
        finally:
            os._exit(0)


class _Server:
    """The loop of the fork-server process."""

    def __init__(self, channel: Channel, config: ForkserverConfig) -> None:
        self._channel = channel
        self._config = config
        self._pid = os.getpid()
        self._children = Children(config, channel.fileno())
        self._prefork = Prefork(self._children)
        self._orphans = Orphans()
        self._waiting: deque[RunAttempt] = deque()
        """Attempts that wait for a slot."""
        self._flush_at = _NEVER
        """Time of the next flush (`time.monotonic`); infinite for none."""
        self._quit = False

    def serve(self) -> None:
        process_tree.become_subreaper()
        alarm_out, alarm_in = process_tree.wake_pipe()
        self._set_signals(alarm_in)
        warm_up(self._config.data, self._config.limits)
        if not self._initialise():
            return
        self._warn_of_signals()
        self._set_signals(alarm_in)
        refuse_signals()
        note_outputs()
        if not self._config.spawn:
            self._prefork.enable()
        self._warn_of_generators()
        self._orphans.spare_present()
        os.environ[TASK_MARK] = "1"
        own_from_now_on()
        gc.collect()
        process_tree.trim_memory()
        gc.freeze()
        self._loop(alarm_out)
        self._channel.flush()

    def _set_signals(self, alarm: int) -> None:
        signal.signal(signal.SIGCHLD, _do_nothing)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)

    def _warn_of_signals(self) -> None:
        if self._config.is_first and signal.getsignal(signal.SIGCHLD) is not _do_nothing:
            Log(verbose=False).warning(
                "worker_init has changed how SIGCHLD is handled, which the worker needs to notice the end of tasks; "
                "the change is undone"
            )

    def _warn_of_generators(self) -> None:
        if self._config.is_first and not sys.modules.keys().isdisjoint(("random", "numpy.random", "torch")):
            from cloud_tasks.worker.forkserver.shared_generators import describe_shared_generators

            warning = describe_shared_generators(self._config.data)
            if warning:
                Log(verbose=False).warning(warning)

    def _loop(self, alarm: int) -> None:
        """Handle messages and reap children until the supervisor quits and no child is left."""
        channel, children, orphans, waiting = self._channel, self._children, self._orphans, self._waiting
        poll = select.poll()
        poll.register(channel.fileno(), select.POLLIN)
        poll.register(alarm, select.POLLIN)
        while not (self._quit and not children.by_pid):
            if self._flush_at != _NEVER and monotonic() >= self._flush_at:
                channel.flush()
                self._flush_at = _NEVER
            ended: list[tuple[Child, int]] = []
            for descriptor, _ in poll.poll(self._timeout()):
                if descriptor == alarm:
                    try:  # noqa: SIM105 - a context manager would touch more memory
                        os.read(alarm, 1 << 12)
                    except BlockingIOError:
                        # A task may have read it.
                        pass
                    ended = self._reap()
                else:
                    self._read()
            # The next tasks start before finished ones are reported; else a core would idle meanwhile.
            started = self._fill()
            for child, status in ended:
                self._report_end(child, status)
            for child in started:
                self._report_start(child)
            if waiting:
                self._prefork.refill(waiting)
            if orphans.due_at != _NEVER and monotonic() >= orphans.due_at:
                orphans.kill(children.by_pid.keys())
            if monotonic() >= children.bound_at:
                children.bound_outputs()

    def report_failure(self, reason: str) -> None:
        """Report why this process ends; the supervisor may be unable to receive it."""
        with contextlib.suppress(OSError):
            os.write(2, f"the fork server failed: {reason}\n".encode("utf-8", "replace"))
        if os.getpid() == self._pid:
            with contextlib.suppress(ChannelClosedError, OSError, ValueError):
                self._channel.put(encode(Failed(reason)))
                self._channel.flush()

    def kill_all(self) -> None:
        """Kill every descendant; do nothing in a forked process."""
        if os.getpid() == self._pid:
            signal.set_wakeup_fd(-1)
            self._children.kill_all()

    def _initialise(self) -> bool:
        problem = ""
        # With spawn, each task process runs worker_init itself.
        if self._config.on_init is not None and not self._config.spawn:
            # A worker within worker_init would run all tasks.
            os.environ[TASK_MARK] = "1"
            try:
                self._config.on_init(self._config.data)
                flush_files()
            except BaseException:
                import traceback

                problem = traceback.format_exc()
            if os.getpid() != self._pid:
                # A process that worker_init has forked, and that has left the function.
                os._exit(1 if problem else 0)
            if self._config.spawn is None and (names := other_threads()):
                Log(verbose=False).warning(f"worker_init left threads ({names}); {SPAWN_ADVICE}")
                self._config.spawn = True
                problem = problem or self._config.program.problem
        self._channel.put(encode(Ready(problem)))
        self._channel.flush()
        return not problem

    def _timeout(self) -> float | None:
        """Return the milliseconds until something is due; None for nothing."""
        children = self._children
        due = min(self._flush_at, self._orphans.due_at, children.bound_at if children.by_pid else _NEVER)
        return None if due == _NEVER else max(0.0, (due - monotonic()) * 1000)

    def _read(self) -> None:
        by_pid = self._children.by_pid
        for fields in self._channel.get():
            message = decode(fields)
            kind = type(message)
            if kind is RunAttempt:
                self._waiting.append(message)
            elif kind is StartProcess:
                self._start_reusable(message.slot)
            elif kind is KillAttempt:
                child = self._children.running.get(message.number)
                if child is not None:
                    process_tree.kill_group(child.pid, message.signal)
            elif kind is KillProcess:
                # A process that is no longer a child may have its pid.
                if message.pid in by_pid:
                    process_tree.kill_group(message.pid, message.signal)
            elif kind is Withdraw:
                self._channel.put(encode(Withdrawn([waiting.number for waiting in self._waiting])))
                self._clear_waiting()
                self._flush_at = 0.0
            elif kind is Ping:
                self._channel.put(encode(message))
                self._flush_at = 0.0
            else:
                self._clear_waiting()
                self._quit = True

    def _clear_waiting(self) -> None:
        self._waiting.clear()
        self._prefork.discard()

    def _fill(self) -> list[Child]:
        """Start an attempt in each free slot; return the processes, which the caller reports."""
        started: list[Child] = []
        waiting, children = self._waiting, self._children
        while waiting and children.free_slots:
            message = waiting.popleft()
            slot = heappop(children.free_slots)
            when = monotonic()
            number = message[0]
            child = self._prefork.open_gate(number, slot)
            if child is None:
                try:
                    child = children.start(message, slot)
                except OSError as error:
                    heappush(children.free_slots, slot)
                    self._report_start_failure(number, slot, error)
                    continue
            child.when = when
            children.running[child.number] = child
            started.append(child)
        return started

    def _start_reusable(self, slot: int) -> None:
        try:
            self._children.start_reusable(slot, self._channel)
        except OSError as error:
            self._report_start_failure(-1, slot, error)

    def _report_start_failure(self, number: int, slot: int, error: OSError) -> None:
        reason = f"cannot start the process of a task: {os_error_text(error)}"
        self._channel.put(encode(StartFailed(number, slot, reason)))
        self._flush_at = 0.0

    def _reap(self) -> list[tuple[Child, int]]:
        """Reap exited task processes, free their slots, and return them with their wait statuses.

        Processes in the group of a task are killed while its pid is not reused, others by the next check for orphans.
        """
        ended: list[tuple[Child, int]] = []
        children = self._children
        while True:
            try:
                reaped = process_tree.reap(children.by_pid)
            except ChildProcessError:
                self._orphans.none_left()
                # Other code, such as a thread of worker_init, has waited for them.
                for pid in list(children.by_pid):
                    self._reaped(pid, UNKNOWN_STATUS, ended)
                return ended
            if reaped is None:
                return ended
            self._reaped(*reaped, ended)

    def _reaped(self, pid: int, status: int, ended: list[tuple[Child, int]]) -> None:
        child = self._children.by_pid.pop(pid, None)
        if child is None:
            self._orphans.helper_ended(pid)
        elif child.gate is not None:
            self._prefork.ended(child)
        else:
            now = monotonic()
            self._children.ended(child, now)
            ended.append((child, status))
            self._orphans.expect(now)

    def _report_start(self, child: Child) -> None:
        self._channel.put((ATTEMPT_STARTED, child.number, child.slot, child.pid, child.when))
        self._flush_at = min(self._flush_at, child.when + _FLUSH_DELAY)

    def _report_end(self, child: Child, status: int) -> None:
        self._children.report_end(child, status, self._channel)
        if child.number < 0 or len(self._waiting) <= self._config.slots:
            # The supervisor submits more attempts when it has this message.
            self._flush_at = 0.0
        else:
            self._flush_at = min(self._flush_at, child.when + _FLUSH_DELAY)
