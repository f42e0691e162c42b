"""The supervisor's view of the zygote and the template: the processes that make task processes.

Invariants, each with a test:

1. A template that dies is replaced, and its running tasks are known to be lost.
2. When this object is closed, no process of the worker is left.
"""

from __future__ import annotations

import _socket
import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.common.ipc import Channel, ChannelClosedError
from cloud_tasks.worker.forkserver.protocol import (
    KillAttempt,
    KillProcess,
    Quit,
    RunAttempt,
    StartProcess,
    Withdraw,
    decode,
    encode,
)
from cloud_tasks.worker.forkserver.zygote import GONE, MAKE

if TYPE_CHECKING:
    import socket

__all__ = ["ForkserverClient"]

_END_PATIENCE = 10.0


class ForkserverClient:
    """Talks to both over their sockets; all calls come from the supervisor's loop.

    Args:
        on_message: Given each message of the template.
        on_template_gone: Called when a template has died and all that it had started is gone.
        on_zygote_gone: Called when there will be no more templates.
    """

    def __init__(
        self,
        end: socket.socket,
        poll: select.poll,
        *,
        max_result_bytes: int | None,
        on_message: Callable[[Any], None],
        on_template_gone: Callable[[int], None],
        on_zygote_gone: Callable[[], None],
    ) -> None:
        self._poll = poll
        self._max_result_bytes = max_result_bytes
        self._on_message = on_message
        self._on_template_gone = on_template_gone
        self._on_zygote_gone = on_zygote_gone
        self._zygote: Channel | None = Channel(end, blocking=True)
        self._template: Channel | None = None
        self._template_pid = 0
        process_tree.become_subreaper()
        poll.register(end, select.POLLIN)

    @property
    def template_pid(self) -> int:
        """0 while there is none."""
        return self._template_pid

    @property
    def can_make_templates(self) -> bool:
        return self._zygote is not None

    def make_template(self) -> None:
        """Ask for one; its first message says that it is ready."""
        if self._zygote is not None:
            self._zygote.put((MAKE, self._max_result_bytes))
            # One that is gone shows itself to the poll.
            with contextlib.suppress(ChannelClosedError):
                self._zygote.flush()

    def run(self, attempt: RunAttempt) -> None:
        if self._template is not None:
            self._template.put(encode(attempt))

    def withdraw(self) -> None:
        """Ask for what the template has not started to be given back."""
        if self._template is not None:
            self._template.put(encode(Withdraw()))

    def make(self, slot: int) -> None:
        """Ask for a process that does several tasks."""
        if self._template is not None:
            self._template.put(encode(StartProcess(slot)))

    def kill_process(self, pid: int | None, sign: int) -> None:
        """Signal one of these."""
        if self._template is not None and pid:
            self._template.put(encode(KillProcess(pid, int(sign))))

    def kill(self, number: int, sign: int) -> None:
        if self._template is not None:
            self._template.put(encode(KillAttempt(number, int(sign))))

    def flush(self) -> None:
        """Send what was put; what the socket does not take goes when it can."""
        template = self._template
        if template is None:
            return
        try:
            template.flush()
        except ChannelClosedError:
            return
        events = select.POLLIN | select.POLLOUT if template.unsent else select.POLLIN
        self._poll.modify(template.fileno(), events)

    def owns(self, descriptor: int) -> bool:
        return any(c is not None and c.fileno() == descriptor for c in (self._zygote, self._template))

    def ready(self, descriptor: int) -> None:
        """Handle a descriptor that the poll reported."""
        if self._template is not None and descriptor == self._template.fileno():
            self._read_template(self._template)
        elif self._zygote is not None and descriptor == self._zygote.fileno():
            self._read_zygote(self._zygote)

    def take_descriptor(self) -> int:
        """The descriptor that came with the template's message."""
        assert self._template is not None
        return self._template.take_descriptor()

    def close(self) -> None:
        """End template and zygote, by force if they take long; nothing of them is left."""
        if self._template is not None:
            self._template.put(encode(Quit()))
            self.flush()
            self._drop_template()
        if self._zygote is not None:
            self._poll.unregister(self._zygote.fileno())
            self._zygote.close()
            self._zygote = None
        deadline = time.monotonic() + _END_PATIENCE
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

    def _read_template(self, template: Channel) -> None:
        try:
            messages = template.get()
        except ChannelClosedError:
            self._drop_template()
            if self._zygote is None:
                self._kill_children()
                self._on_template_gone(0)
            return
        for message in messages:
            self._on_message(decode(message))

    def _read_zygote(self, zygote: Channel) -> None:
        try:
            messages = zygote.get()
        except ChannelClosedError:
            self._poll.unregister(zygote.fileno())
            zygote.close()
            self._zygote = None
            self._on_zygote_gone()
            return
        for message in messages:
            if message[0] == MAKE:
                end: Any = _socket.socket(fileno=zygote.take_descriptor())
                self._template = Channel(end, blocking=False)
                self._template_pid = message[1]
                self._poll.register(end, select.POLLIN)
            elif message[0] == GONE:
                self._read_rest()
                self._on_template_gone(message[2])

    def _read_rest(self) -> None:
        """What a dead template had still said counts."""
        while self._template is not None:
            template = self._template
            try:
                messages = template.get()
            except ChannelClosedError:
                self._drop_template()
                return
            if not messages:
                return
            for message in messages:
                self._on_message(decode(message))

    def _drop_template(self) -> None:
        if self._template is not None:
            self._poll.unregister(self._template.fileno())
            self._template.close()
            self._template = None
            self._template_pid = 0
