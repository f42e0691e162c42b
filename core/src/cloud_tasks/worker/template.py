"""The template: a warm, single-threaded copy of the user's program from which every task process is forked.

It obeys the supervisor, message by message:

=====================================================  ==========================================================
from the supervisor                                    to the supervisor
=====================================================  ==========================================================
``(RUN, number, slot, id, attempt, body, scratch,      ``(STARTED, number, pid, when)``
environment)``
``(KILL, number, signal)``                             ``(ENDED, number, status, when, content, tail)``
``(QUIT,)``                                            ``(READY, problem)`` once, after ``worker_init``
=====================================================  ==========================================================

``when`` is `time.monotonic`. ``content`` is what the task reported; None: it comes as a descriptor, being long.

Invariants, each with a test:

1. No thread and no library of the supervisor exists here; what the template adds to the user's program is small.
2. When a task process has ended, whatever it started is killed; when the supervisor is gone, everything is.
3. No result passes through this process's memory unless it is small.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cloud_tasks.worker import linux
from cloud_tasks.worker.attempt import SMALL_RESULT, Assignment, Function, open_channel, run_attempt, run_attempts
from cloud_tasks.worker.channel import Channel, Closed, socket_pair
from cloud_tasks.worker.data import WorkerData

if TYPE_CHECKING:
    import socket

__all__ = ["ENDED", "KILL", "QUIT", "READY", "RUN", "STARTED", "TemplateOrder", "run_template"]

RUN, KILL, QUIT = 1, 2, 3
STARTED, ENDED, READY = 11, 12, 13

TAIL = 8 * 1024
"""Bytes of a task's output that are kept for its failure event."""
OUTPUT_LIMIT = 64 * 1024 * 1024
"""Bytes of output that a task may have in an unnamed capture; what is older goes."""

_SWEEP = 0.05
"""Seconds between two looks for orphans, at least."""
_SWEEP_SHARE = 100
"""How many times longer than a look the time between two is, at least: where thousands of processes run."""
_HOLD = 0.01
"""Seconds for which the word of a start waits for company: that a short task has ended, most of all."""
_BOUND = 1.0
"""Seconds between two looks at how much running tasks have printed."""


class TemplateOrder:
    """What a template needs to know, settled before the first fork."""

    __slots__ = ("capture", "data", "function", "limits", "log_dir", "on_init", "reuse")

    def __init__(
        self,
        function: Function,
        data: WorkerData,
        *,
        on_init: Callable[[WorkerData], Any] | None,
        capture: bool,
        log_dir: str | None,
        limits: tuple[int | None, str | None],
        reuse: int = 1,
    ) -> None:
        self.function = function
        self.data = data
        self.on_init = on_init
        self.capture = capture
        self.log_dir = log_dir
        self.limits = limits
        self.reuse = reuse
        """How many tasks one process may do."""


class _Child:
    __slots__ = ("end", "left", "number", "output", "output_is_named", "pid", "result", "slot")

    def __init__(self, number: int, slot: int, pid: int, result: int, output: int | None, named: bool) -> None:
        self.number = number
        self.slot = slot
        self.pid = pid
        self.result = result
        self.output = output
        self.output_is_named = named
        self.end: Channel | None = None
        """For a process that does several tasks."""
        self.left = 0
        """How many more it will do."""


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
        self._by_end: dict[int, _Child] = {}
        self._idle: list[_Child] = []
        self._captures: list[int] = []
        self._sweep_at: float | None = None
        self._last_sweep = 0.0
        self._sweep_cost = 0.0
        self._bound_at = 0.0
        self._say_at: float | None = None
        """When what waits in the channel is to be sent at the latest; None: nothing waits."""
        self._quit = False

    def serve(self) -> None:
        linux.become_subreaper()
        alarm_out, alarm_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(alarm_in, warn_on_full_buffer=False)
        if not self._initialise():
            return
        gc.collect()
        gc.freeze()
        poll = self._poll
        poll.register(self._channel.fileno(), select.POLLIN)
        poll.register(alarm_out, select.POLLIN)
        try:
            while not (self._quit and len(self._by_pid) == len(self._idle)):
                if self._say_at is not None and time.monotonic() >= self._say_at:
                    self._channel.flush()
                    self._say_at = None
                for descriptor, _ in poll.poll(self._patience()):
                    if descriptor == alarm_out:
                        os.read(alarm_out, 1 << 12)
                        self._reap()
                    elif descriptor in self._by_end:
                        self._hear(self._by_end[descriptor])
                    elif descriptor == self._channel.fileno():
                        self._obey()
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
                _kill_group(pid)
            children = linux.children_of(self._pid)
            for pid in children:
                _kill(pid)
            try:
                pid, _ = os.waitpid(-1, 0)
            except ChildProcessError:
                return
            self._by_pid.pop(pid, None)

    def _initialise(self) -> bool:
        problem = ""
        if self._order.on_init is not None:
            try:
                self._order.on_init(self._order.data)
            except BaseException:
                import traceback

                problem = traceback.format_exc()
        self._channel.put((READY, problem))
        self._channel.flush()
        return not problem

    def _patience(self) -> float | None:
        """Milliseconds that may be slept; None: until something happens."""
        bound_at = self._bound_at if self._by_pid and self._order.capture else None
        due = [at for at in (self._say_at, self._sweep_at, bound_at) if at is not None]
        return max(0.0, (min(due) - time.monotonic()) * 1000) if due else None

    def _obey(self) -> None:
        for message in self._channel.get():
            if message[0] == RUN:
                if self._order.reuse > 1:
                    self._assign(message[1:])
                else:
                    self._start(Assignment(*message[1:]))
            elif message[0] == KILL:
                child = self._by_number.get(message[1])
                if child is not None:
                    _kill_group(child.pid, message[2])
            else:
                self._quit = True

    def _start(self, assignment: Assignment) -> None:
        order = self._order
        result = open_channel()
        output, named = self._open_output(assignment)
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            run_attempt(
                order.function,
                order.data,
                assignment,
                parent=self._pid,
                result=result,
                output=output,
                limits=order.limits,
            )
        child = _Child(assignment.number, assignment.slot, pid, result, output, named)
        self._by_pid[pid] = child
        self._by_number[child.number] = child
        self._channel.put((STARTED, child.number, pid, started))
        if self._say_at is None:
            self._say_at = started + _HOLD

    def _assign(self, message: tuple[Any, ...]) -> None:
        """Give a task to a process that waits for one, or to a new one."""
        number, slot = message[0], message[1]
        child = self._idle.pop() if self._idle else self._start_reusable(slot)
        child.number, child.slot = number, slot
        child.left -= 1
        self._by_number[number] = child
        assert child.end is not None
        child.end.put(message)
        self._channel.put((STARTED, number, child.pid, time.monotonic()))
        self._say_at = 0.0
        try:
            child.end.flush()
        except Closed:
            return

    def _start_reusable(self, slot: int) -> _Child:
        order = self._order
        ours, theirs = socket_pair()
        output = (self._captures.pop() if self._captures else _unnamed_file()) if order.capture else None
        pid = os.fork()
        if pid == 0:
            ours.close()
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
        child = _Child(-1, slot, pid, -1, output, False)
        child.end, child.left = Channel(ours, blocking=True), order.reuse
        self._by_pid[pid] = child
        self._by_end[ours.fileno()] = child
        self._poll.register(ours, select.POLLIN)
        return child

    def _hear(self, child: _Child) -> None:
        """A process that does several tasks says that one is done; its end is noticed by its death."""
        assert child.end is not None
        try:
            messages = child.end.get()
        except Closed:
            self._poll.unregister(child.end.fileno())
            del self._by_end[child.end.fileno()]
            return
        for number, content in messages:
            self._by_number.pop(number, None)
            child.number = -1
            failed = content is not None and b'"error"' in content[:64]
            tail = _tail(child.output) if failed and child.output is not None else b""
            message = (ENDED, number, 0, time.monotonic(), content, tail)
            if content is None:
                descriptor = child.end.take_descriptor()
                self._channel.put_with_descriptor(message, descriptor)
                os.close(descriptor)
            else:
                self._channel.put(message)
            self._say_at = 0.0
            if child.output is not None:
                os.ftruncate(child.output, 0)
            if child.left > 0:
                self._idle.append(child)

    def _open_output(self, assignment: Assignment) -> tuple[int | None, bool]:
        order = self._order
        if order.log_dir is not None:
            name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in assignment.task_id)
            path = os.path.join(order.log_dir, f"{name[:200]}.{assignment.attempt}.log")
            try:
                return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644), True
            except OSError as error:
                sys.stderr.write(f"cannot write the task's log {path}: {error.strerror}\n")
        if not order.capture:
            return None, False
        if self._captures:
            return self._captures.pop(), False
        return _unnamed_file(), False

    def _reap(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                self._sweep_at = None
                return
            if ended is None:
                return
            child = self._by_pid.pop(ended.si_pid, None)
            if child is not None:
                # What stayed in its group goes while its pid is still taken, the rest with the next sweep.
                _kill_group(child.pid)
            _, status = os.waitpid(ended.si_pid, 0)
            if child is not None:
                self._ended(child, status)
                if self._sweep_at is None:
                    pause = max(_SWEEP, _SWEEP_SHARE * self._sweep_cost)
                    self._sweep_at = max(time.monotonic(), self._last_sweep + pause)

    def _ended(self, child: _Child, status: int) -> None:
        if child.end is not None:
            self._reusable_ended(child, status)
            return
        when = time.monotonic()
        del self._by_number[child.number]
        content: bytes | None = os.pread(child.result, SMALL_RESULT + 1, 0)
        failed = status != 0 or not content or b'"error"' in content[:64]
        if content is not None and len(content) > SMALL_RESULT:
            content = None
        tail = _tail(child.output) if failed and child.output is not None else b""
        message = (ENDED, child.number, status, when, content, tail)
        if content is None:
            self._channel.put_with_descriptor(message, child.result)
        else:
            self._channel.put(message)
        self._say_at = 0.0
        os.close(child.result)
        if child.output is not None:
            if child.output_is_named:
                os.close(child.output)
            else:
                os.ftruncate(child.output, 0)
                self._captures.append(child.output)

    def _reusable_ended(self, child: _Child, status: int) -> None:
        assert child.end is not None
        if child.end.fileno() in self._by_end:
            # What it had said before it died counts.
            while child.end.fileno() in self._by_end:
                self._hear(child)
        if child in self._idle:
            self._idle.remove(child)
        if child.number >= 0:
            self._by_number.pop(child.number, None)
            tail = _tail(child.output) if child.output is not None else b""
            self._channel.put((ENDED, child.number, status, time.monotonic(), b"", tail))
            self._say_at = 0.0
        child.end.close()
        if child.output is not None:
            os.ftruncate(child.output, 0)
            self._captures.append(child.output)

    def _sweep(self) -> None:
        """Kill what ended tasks left behind: children that are no task. Theirs then become ours, and go as well."""
        began = time.monotonic()
        orphans = [pid for pid in linux.children_of(self._pid) if pid not in self._by_pid]
        for pid in orphans:
            _kill(pid)
        self._last_sweep = time.monotonic()
        self._sweep_cost = self._last_sweep - began
        self._sweep_at = self._last_sweep + self._sweep_cost if orphans else None

    def _bound_outputs(self) -> None:
        self._bound_at = time.monotonic() + _BOUND
        for child in self._by_pid.values():
            if child.output is not None and not child.output_is_named and os.fstat(child.output).st_size > OUTPUT_LIMIT:
                os.ftruncate(child.output, 0)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _kill_group(pid: int, number: int = signal.SIGKILL) -> None:
    """Signal the process group of a child that is not yet reaped, or the child alone before it has made its group."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
    except PermissionError:
        return


def _unnamed_file() -> int:
    import fcntl
    import tempfile

    descriptor, path = tempfile.mkstemp(prefix="cloud-tasks-output-")
    os.unlink(path)
    # What comes after a truncation starts at the beginning again.
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)
    return descriptor


def _tail(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, TAIL, max(0, size - TAIL))
