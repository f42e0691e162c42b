"""The zygote: an idle copy of the user's program, kept clean so that a template that died can be made again.

It is the first thing forked, before the supervisor imports anything; the supervisor never forks again.

Invariants, each with a test:

1. When a template dies, whatever its tasks started dies with it, before the next template serves.
2. When the supervisor dies, however, nothing of the worker is left a moment later.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.common.ipc import Channel, ChannelClosedError, socket_pair
from cloud_tasks.worker.forkserver.config import ForkserverConfig
from cloud_tasks.worker.forkserver.server import run_forkserver
from cloud_tasks.worker.forkserver.spawn import forget_event_loop

if TYPE_CHECKING:
    import socket

__all__ = ["GONE", "MAKE", "fork_zygote"]

MAKE, GONE = 21, 22
"""``(MAKE, bytes)`` asks for a template whose tasks' results have at most so many bytes (None: no limit), and is
answered by ``(MAKE, pid)`` with its socket; ``(GONE, pid, status)`` says that it died."""

_PATIENCE = 5.0


def fork_zygote(order: ForkserverConfig, scratch_root: str) -> socket.socket:
    """Fork it; returns the supervisor's end of its socket.

    Args:
        scratch_root: The folder that is removed when the supervisor died without doing so.
    """
    ours, theirs = socket_pair()
    process_tree.prepare()
    if os.fork():
        theirs.close()
        return ours
    try:
        ours.close()
        forget_event_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        _Zygote(Channel(theirs, blocking=True), order, scratch_root).serve()
    finally:
        os._exit(0)


class _Zygote:
    def __init__(self, channel: Channel, order: ForkserverConfig, scratch_root: str) -> None:
        self._channel = channel
        self._order = order
        self._scratch_root = scratch_root
        self._template = 0

    def serve(self) -> None:
        process_tree.become_subreaper()
        alarm_out, alarm_in = process_tree.alarm_pipe()
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
                    for _, limit in self._channel.get():
                        self._order.limits = (limit, self._order.limits[1])
                        self._make((alarm_out, alarm_in))
        except ChannelClosedError:
            self._end()

    def _make(self, descriptors: tuple[int, ...]) -> None:
        ours, theirs = socket_pair()
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                self._channel.close()
                signal.set_wakeup_fd(-1)
                for descriptor in descriptors:
                    os.close(descriptor)
                run_forkserver(theirs, self._order)
            finally:
                os._exit(0)
        theirs.close()
        self._template = pid
        self._channel.put_with_descriptor((MAKE, pid), ours.fileno())
        ours.close()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._template:
                self._template = 0
                self._kill_orphans()
                self._channel.put((GONE, pid, status))
                self._channel.flush()

    def _kill_orphans(self) -> None:
        while True:
            for pid in process_tree.children_of(os.getpid()):
                if pid != self._template:
                    process_tree.kill(pid)
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG if self._template else 0)
            except ChildProcessError:
                return
            if pid == 0:
                return

    def _end(self) -> None:
        """The supervisor is gone. The template sees it as we do and kills its tasks; one that does not is killed."""
        deadline = time.monotonic() + _PATIENCE
        while self._template and time.monotonic() < deadline:
            pid, _ = os.waitpid(self._template, os.WNOHANG)
            if pid:
                self._template = 0
            else:
                time.sleep(0.005)
        if self._template:
            process_tree.kill(self._template)
            self._template = 0
        self._kill_orphans()
        if os.path.isdir(self._scratch_root):
            import shutil

            shutil.rmtree(self._scratch_root, ignore_errors=True)
