"""The zygote: an idle process that exists to be forked.

It is a copy of the user's program, forked before the supervisor imports anything, and forks the fork server: once at
the start, and again whenever that has died. The supervisor, which has threads and clients, never forks.

Invariants, each with a test:

1. When a fork server dies, all processes that its tasks started are killed before the next fork server starts.
2. When the supervisor dies, for whatever reason, no process of the worker is left a moment later, even if a task has
   stopped them.
3. No task, and no program that it starts, inherits a secret of the worker's backends.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.common.ipc import Channel, ChannelClosedError, socket_pair
from cloud_tasks.worker.common.os_errors import os_error_text
from cloud_tasks.worker.common.private_api import forget_event_loop
from cloud_tasks.worker.common.secret_variables import take_variables
from cloud_tasks.worker.forkserver.config import ForkserverConfig
from cloud_tasks.worker.forkserver.server import run_forkserver
from cloud_tasks.worker.task_process.process_setup import refuse_signals, restore_mask

if TYPE_CHECKING:
    import socket

__all__ = ["FORKSERVER_DIED", "START_FORKSERVER", "fork_zygote"]

START_FORKSERVER, FORKSERVER_DIED = 21, 22
"""Messages. The supervisor sends ``(START_FORKSERVER, bytes, names)`` with the maximum size of a result (None for no
limit) and the environment variables that hold secrets, which no task inherits. The answer is ``(START_FORKSERVER, pid,
pid of the zygote)`` with the fork server's socket. ``(FORKSERVER_DIED, pid, status, reason)`` reports its end, or that
it could not be started (pid 0, with the reason)."""

_EXIT_TIMEOUT = 5.0
"""Seconds that the fork server has to exit before it is killed."""


def fork_zygote(config: ForkserverConfig, scratch_root: str) -> socket.socket:
    """Fork the zygote; return the supervisor's end of its socket.

    Args:
        scratch_root: Folder to remove if the supervisor dies without removing it.
    """
    ours, theirs = socket_pair()
    process_tree.prepare()
    if os.fork():
        theirs.close()
        return ours
    try:
        ours.close()
        process_tree.continue_when_orphaned()
        forget_event_loop()
        _detach_input()
        config.program.flags.make_read_only()
        mask = refuse_signals()
        _Zygote(Channel(theirs, blocking=True), config, scratch_root, mask).serve()
    finally:
        os._exit(0)


def _detach_input() -> None:
    """Make the null device the standard input of tasks: only one process can read the worker's own."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != 0:
        os.dup2(null, 0)
        os.close(null)
    os.set_inheritable(0, True)
    # The former object may hold lines that the program has not read yet.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115


class _Zygote:
    """The loop of the zygote process."""

    def __init__(self, channel: Channel, config: ForkserverConfig, scratch_root: str, mask: Collection[int]) -> None:
        self._channel = channel
        self._config = config
        self._scratch_root = scratch_root
        self._mask = mask
        """Signal mask of the program."""
        self._forkserver = 0

    def serve(self) -> None:
        process_tree.become_subreaper()
        alarm_out, alarm_in = process_tree.wake_pipe()
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(alarm_in, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        poll.register(alarm_out, select.POLLIN)
        try:
            while True:
                for descriptor, _ in poll.poll():
                    if descriptor == alarm_out:
                        os.read(alarm_out, 1 << 12)
                        self._reap()
                        continue
                    for _, limit, secret_variables in self._channel.get():
                        take_variables(secret_variables)
                        self._config.limits = (limit, self._config.limits[1])
                        self._start_forkserver((alarm_out, alarm_in))
        except ChannelClosedError:
            self._end()

    def _start_forkserver(self, descriptors: tuple[int, ...]) -> None:
        try:
            ours, theirs = socket_pair()
            pid = os.fork()
        except OSError as error:
            self._channel.put((FORKSERVER_DIED, 0, 0, f"cannot start the fork server: {os_error_text(error)}"))
            self._channel.flush()
            return
        if pid == 0:
            try:
                ours.close()
                self._channel.close()
                process_tree.continue_when_orphaned()
                signal.set_wakeup_fd(-1)
                restore_mask(self._mask)
                for descriptor in descriptors:
                    os.close(descriptor)
                run_forkserver(theirs, self._config)
            finally:
                os._exit(0)
        theirs.close()
        self._forkserver = pid
        self._config.is_first = False
        self._channel.put_with_descriptor((START_FORKSERVER, pid, os.getpid()), ours.fileno())
        ours.close()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._forkserver:
                self._forkserver = 0
                self._kill_orphans()
                self._channel.put((FORKSERVER_DIED, pid, status, ""))
                self._channel.flush()

    def _kill_orphans(self) -> None:
        while True:
            for pid in process_tree.children_of(os.getpid()):
                if pid != self._forkserver:
                    process_tree.kill(pid)
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG if self._forkserver else 0)
            except ChildProcessError:
                return
            if pid == 0:
                return

    def _end(self) -> None:
        """End everything: the supervisor has exited. The fork server, which notices it too, gets time to exit."""
        deadline = time.monotonic() + _EXIT_TIMEOUT
        while self._forkserver and time.monotonic() < deadline:
            pid, _ = os.waitpid(self._forkserver, os.WNOHANG)
            if pid:
                self._forkserver = 0
            else:
                time.sleep(0.005)
        if self._forkserver:
            process_tree.kill(self._forkserver)
            self._forkserver = 0
        self._kill_orphans()
        try:
            # It is empty, unless the supervisor was killed.
            os.rmdir(self._scratch_root)
        except OSError:
            if os.path.isdir(self._scratch_root):
                import shutil

                shutil.rmtree(self._scratch_root, ignore_errors=True)
