"""Messages between the supervisor and the processes that run tasks, over a stream socket.

A message is a `marshal` value after its length (4 bytes); both ends are the same interpreter. A message may carry one
descriptor; it says so itself, by place in its kind's definition.

Invariants, each with a test:

1. A message of any size arrives whole, however the socket cuts it.
2. The supervisor's end never blocks: what the socket does not take waits in memory.
"""

from __future__ import annotations

# The module beneath `socket`, which would bring four more libraries into every task process.
import _socket
import marshal
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

__all__ = ["Channel", "ChannelClosedError", "socket_pair"]

_LENGTH = 4
_CHUNK = 1 << 16
_INT = 4
"""Bytes of a C int, which a descriptor is."""
_ROOM = _socket.CMSG_SPACE(8 * _INT)


class ChannelClosedError(Exception):
    """The other end is gone."""


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, not inherited by programs that a process executes."""
    pair: Any = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    return pair[0], pair[1]


class Channel:
    """One end. ``blocking``: `flush` waits until all is sent, as the template does."""

    def __init__(self, end: socket.socket, *, blocking: bool) -> None:
        end.setblocking(blocking)
        self._end = end
        self._out = bytearray()
        self._in = bytearray()
        self._descriptors: list[int] = []

    def fileno(self) -> int:
        return self._end.fileno()

    @property
    def unsent(self) -> int:
        """Bytes that wait for the socket."""
        return len(self._out)

    def put(self, message: Any) -> None:
        """Add a message to what the next `flush` sends."""
        body = marshal.dumps(message)
        self._out += len(body).to_bytes(_LENGTH, "little")
        self._out += body

    def put_with_descriptor(self, message: Any, descriptor: int) -> None:
        """Send a message with a descriptor, after all that waits; the caller keeps and closes its own copy."""
        self.flush()
        self.put(message)
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptor.to_bytes(_INT, sys.byteorder))]
        sent = self._end.sendmsg([bytes(self._out[:1])], rights)
        del self._out[:sent]
        self.flush()

    def flush(self) -> None:
        """Send what waits; raises `ChannelClosedError`."""
        try:
            while self._out:
                with memoryview(self._out) as waiting:
                    sent = self._end.send(waiting[: 1 << 20])
                del self._out[:sent]
        except BlockingIOError:
            return
        except OSError as error:
            raise ChannelClosedError from error

    def get(self) -> list[Any]:
        """The messages that have arrived, waiting for the first bytes if the end blocks; raises `ChannelClosedError`.

        A descriptor that came along is taken with `take_descriptor`, in the order of the messages that carry one.
        """
        try:
            data, ancillary, _, _ = self._end.recvmsg(_CHUNK, _ROOM, _socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return []
        except OSError as error:
            raise ChannelClosedError from error
        for level, kind, content in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                starts = range(0, len(content) - _INT + 1, _INT)
                self._descriptors.extend(int.from_bytes(content[at : at + _INT], sys.byteorder) for at in starts)
        if not data:
            raise ChannelClosedError
        self._in += data
        return self._whole()

    def take_descriptor(self) -> int:
        return self._descriptors.pop(0)

    def close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        self._end.close()

    def _whole(self) -> list[Any]:
        messages: list[Any] = []
        start, waiting = 0, self._in
        while len(waiting) - start >= _LENGTH:
            end = start + _LENGTH + int.from_bytes(waiting[start : start + _LENGTH], "little")
            if len(waiting) < end:
                break
            messages.append(marshal.loads(waiting[start + _LENGTH : end]))
            start = end
        if start:
            del waiting[:start]
        return messages
