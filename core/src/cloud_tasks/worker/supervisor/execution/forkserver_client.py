"""The supervisor's connection to the zygote and the fork server, which start all task processes.

Invariants, each with a test:

1. A fork server that dies is replaced, and its running attempts are reported as interrupted.
2. After `close` no process of the worker is left. A fork server that is still busy with ``worker_init``, or that a
   task has stopped, delays it no longer than another.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.common.ipc import Channel, ChannelClosedError
from cloud_tasks.worker.common.private_api import open_socket
from cloud_tasks.worker.forkserver.protocol import (
    KillAttempt,
    KillProcess,
    Ping,
    Quit,
    RunAttempt,
    StartProcess,
    Withdraw,
    decode,
    encode,
)
from cloud_tasks.worker.forkserver.zygote import FORKSERVER_DIED, START_FORKSERVER
from cloud_tasks.worker.supervisor.event_loop import EventLoop, LoopChannel
from cloud_tasks.worker.supervisor.execution.forkserver_watch import WATCH_INTERVAL, ForkserverWatch
from cloud_tasks.worker.supervisor.execution.outcome import end_text
from cloud_tasks.worker.task_process.process_end import EXIT_TIMEOUT

if TYPE_CHECKING:
    import socket

__all__ = ["ForkserverClient"]

_EXIT_TIMEOUT = EXIT_TIMEOUT + 5.0
"""Seconds that task processes, fork server and zygote have to exit before they are killed."""


class ForkserverClient:
    """Connection to both processes, used in the supervisor's loop only.

    Args:
        zygote: Socket of the zygote, a child of this process.
        max_result_bytes: Maximum size of a result; None for no limit.
        secret_variables: Environment variables that the fork server and its tasks do not inherit.
        on_message: Called with each message of the fork server.
        on_forkserver_died: Called once a dead fork server and all its descendants are gone, and when none can be
            started, with what happened.
        on_zygote_died: Called when no fork server can be started any more.
        on_problem: Called with a line for the log about a process that was stopped or does not answer.
    """

    def __init__(
        self,
        zygote: socket.socket,
        loop: EventLoop,
        *,
        max_result_bytes: int | None,
        secret_variables: tuple[str, ...],
        on_message: Callable[[Any], None],
        on_forkserver_died: Callable[[str], None],
        on_zygote_died: Callable[[], None],
        on_problem: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._max_result_bytes = max_result_bytes
        self._secret_variables = secret_variables
        self._on_message = on_message
        self._on_forkserver_died = on_forkserver_died
        self._on_zygote_died = on_zygote_died
        self._zygote: Channel | None = Channel(zygote, blocking=True)
        self._forkserver: LoopChannel | None = None
        self._watch = ForkserverWatch(lambda: self._put(Ping()), on_problem)
        self._is_killed = False
        """Whether `kill` has killed the present fork server."""
        loop.later(WATCH_INTERVAL, self._check)
        process_tree.become_subreaper()
        loop.add_reader(zygote.fileno(), self._read_zygote)

    @property
    def is_connected(self) -> bool:
        """Whether there is a fork server."""
        return self._forkserver is not None

    @property
    def can_start_forkserver(self) -> bool:
        """Whether the zygote is alive."""
        return self._zygote is not None

    def start_forkserver(self) -> None:
        """Ask the zygote for a fork server; the first message of that is `Ready`."""
        if self._zygote is not None:
            self._zygote.put((START_FORKSERVER, self._max_result_bytes, self._secret_variables))
            # The loop notices a zygote that has died.
            with contextlib.suppress(ChannelClosedError):
                self._zygote.flush()

    def run_attempt(self, attempt: RunAttempt) -> None:
        """Run an attempt in a process of its own as soon as a slot is free."""
        self._put(attempt)

    def withdraw(self) -> None:
        """Have attempts that wait at the fork server returned."""
        self._put(Withdraw())

    def start_process(self, slot: int) -> None:
        """Start a process that runs several attempts."""
        self._put(StartProcess(slot))

    def kill_process(self, pid: int | None, number: int) -> None:
        """Signal the group of such a process; do nothing before it has a pid."""
        if pid:
            self._put(KillProcess(pid, int(number)))

    def kill_attempt(self, attempt_number: int, number: int) -> None:
        """Signal the process group of an attempt."""
        self._put(KillAttempt(attempt_number, int(number)))

    def _put(self, message: Any) -> None:
        if self._forkserver is not None:
            self._forkserver.put(encode(message))

    def flush(self) -> None:
        """Send the messages to the fork server, as far as the socket accepts them."""
        if self._forkserver is not None:
            with contextlib.suppress(ChannelClosedError):
                self._forkserver.flush()

    def take_descriptor(self) -> int:
        """Return the descriptor that came with the fork server's message; the caller closes it."""
        assert self._forkserver is not None
        return self._forkserver.take_descriptor()

    def kill(self) -> None:
        """Kill the fork server; the zygote, if that has not reported the end of a fork server killed before."""
        watch = self._watch
        if watch.zygote:
            process_tree.resume(watch.zygote)
        if chosen := (watch.forkserver or watch.zygote) if not self._is_killed else watch.zygote:
            process_tree.kill(chosen)
            self._is_killed = True

    def close(self, timeout: float = _EXIT_TIMEOUT) -> None:
        """End fork server and zygote; no descendant is left.

        Args:
            timeout: Seconds that task processes and fork server have to exit before they are killed.
        """
        if self._forkserver is not None:
            self._put(Quit())
            if not (self._watch.is_ready and self._await_end(self._forkserver, min(timeout, _EXIT_TIMEOUT))):
                process_tree.kill(self._watch.forkserver)
            self._drop_forkserver()
        if self._zygote is not None:
            if self._watch.zygote:
                process_tree.resume(self._watch.zygote)
            self._drop_zygote(self._zygote)
        deadline = time.monotonic() + _EXIT_TIMEOUT
        pause = 0.001
        while time.monotonic() < deadline:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                time.sleep(pause)
                pause = min(pause * 2, 0.05)
        self._kill_children()

    def _await_end(self, forkserver: LoopChannel, timeout: float) -> bool:
        """Return True once the fork server has exited, as it does when its task processes have ended."""
        readable, now = select.poll(), time.monotonic()
        deadline, check_at = now + timeout, now + WATCH_INTERVAL
        readable.register(forkserver.fileno(), select.POLLIN)
        try:
            while (now := time.monotonic()) < deadline:
                if now >= check_at:
                    check_at = now + WATCH_INTERVAL
                    self._watch.check()
                forkserver.flush()
                left = min(deadline, check_at) - now
                if readable.poll(max(0.0, min(left, 0.05 if forkserver.unsent else left)) * 1000):
                    forkserver.get()
        except ChannelClosedError:
            return True
        return False

    def _kill_children(self) -> None:
        while True:
            for pid in process_tree.children_of(os.getpid()):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return

    def _check(self) -> None:
        self._watch.check()
        self._loop.later(WATCH_INTERVAL, self._check)

    def _read_forkserver(self) -> None:
        assert self._forkserver is not None
        try:
            messages = self._forkserver.get()
        except ChannelClosedError:
            self._drop_forkserver()
            if self._zygote is None:
                self._kill_children()
                self._on_forkserver_died("the fork server died")
            return
        if messages:
            self._watch.answered()
        for message in messages:
            self._on_message(decode(message))

    def _read_zygote(self) -> None:
        assert self._zygote is not None
        try:
            messages = self._zygote.get()
        except ChannelClosedError:
            self._drop_zygote(self._zygote)
            self._on_zygote_died()
            if self._forkserver is None:
                # It cannot report the end of the fork server, or start one, any more.
                self._kill_children()
                self._on_forkserver_died("the fork server died")
            return
        for message in messages:
            if message[0] == START_FORKSERVER:
                try:
                    end = open_socket(self._zygote.take_descriptor())
                except OSError:
                    # The fork server exits, since its socket is closed.
                    continue
                self._forkserver = LoopChannel(end, self._loop, self._read_forkserver)
                self._watch.start(message[2], message[1])
                self._is_killed = False
            elif message[0] == FORKSERVER_DIED:
                self._read_rest()
                self._watch.forkserver = 0
                self._on_forkserver_died(message[3] or f"the fork server {end_text(message[2])}")

    def _read_rest(self) -> None:
        """Handle the messages that a dead fork server had sent."""
        while self._forkserver is not None:
            try:
                messages = self._forkserver.get()
            except ChannelClosedError:
                self._drop_forkserver()
                return
            if not messages:
                return
            for message in messages:
                self._on_message(decode(message))

    def _drop_forkserver(self) -> None:
        if self._forkserver is not None:
            self._forkserver.close()
            self._forkserver = None

    def _drop_zygote(self, zygote: Channel) -> None:
        self._loop.remove_reader(zygote.fileno())
        zygote.close()
        self._zygote = None
        self._watch.zygote = 0
