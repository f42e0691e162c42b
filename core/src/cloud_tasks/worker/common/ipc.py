"""Messages between the supervisor and the processes that run tasks, over a stream socket.

A message is a mark, its length and a `marshal` value; both ends run the same interpreter. Some kinds of messages are
sent with a descriptor.

Invariants, each with a test:

1. A message of any size arrives whole, however the socket splits it.
2. An end that does not block keeps in memory what the socket does not accept.
3. A descriptor that cannot be received, for lack of free ones, is missed by its own message only.
4. Bytes of any other origin than `put`, such as a task that writes to its descriptors, close the channel.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from marshal import dumps, loads
from typing import TYPE_CHECKING, Any

from cloud_tasks.worker.common.private_api import sockets

if TYPE_CHECKING:
    import socket

__all__ = ["MAX_MESSAGE", "Channel", "ChannelClosedError", "socket_pair"]

_MARK = b"\xf5\xc7\x91\xfe"
"""First bytes of each message."""
_LENGTH = 4
_HEADER = len(_MARK) + _LENGTH
MAX_MESSAGE = (1 << 8 * _LENGTH) - 1
"""Bytes of a message that its length can express."""
_CHUNK = 1 << 16
_LOST = -1
"""Stands for a descriptor that could not be received."""
_INT = 4
"""Bytes of a C int, the type of a descriptor."""
_ANCILLARY_BYTES = sockets.CMSG_SPACE(8 * _INT)


class ChannelClosedError(Exception):
    """The other end is closed."""


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected ends, which executed programs do not inherit."""
    pair: Any = sockets.socketpair(sockets.AF_UNIX, sockets.SOCK_STREAM)
    return pair[0], pair[1]


class Channel:
    """One end of a connection.

    Args:
        blocking: Whether `flush` and `get` wait for the socket.
        max_message: Bytes of an incoming message at most.
    """

    def __init__(self, end: socket.socket, *, blocking: bool, max_message: int = MAX_MESSAGE) -> None:
        end.setblocking(blocking)
        self._max_message = max_message
        self._end = end
        self._out = bytearray()
        self._in = bytearray()
        self._descriptors: list[int] = []
        self.is_broken = False
        """Whether bytes have arrived that are no message; the channel is closed then."""

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._end.fileno()

    @property
    def unsent(self) -> int:
        """Number of bytes that the socket has not accepted yet."""
        return len(self._out)

    def put(self, message: Any) -> None:
        """Buffer a message for the next `flush`."""
        body = dumps(message)
        self._out += _MARK + len(body).to_bytes(_LENGTH, "little")
        self._out += body

    def put_with_descriptor(self, message: Any, descriptor: int) -> None:
        """Send the buffered messages, then one with a descriptor, of which the caller closes its own copy."""
        self.flush()
        self.put(message)
        rights = [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, descriptor.to_bytes(_INT, sys.byteorder))]
        sent = self._end.sendmsg([bytes(self._out[:1])], rights)
        del self._out[:sent]
        self.flush()

    def flush(self) -> None:
        """Send the buffered messages. Raise `ChannelClosedError` if the other end is closed."""
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
        """Return the messages that have arrived; wait for the first bytes if the end blocks.

        Descriptors are returned by `take_descriptor`, in the order of their messages.

        Raises:
            ChannelClosedError: The other end is closed.
        """
        try:
            data, ancillary, flags, _ = self._end.recvmsg(_CHUNK, _ANCILLARY_BYTES, sockets.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return []
        except OSError as error:
            raise ChannelClosedError from error
        for level, kind, content in ancillary:
            if level == sockets.SOL_SOCKET and kind == sockets.SCM_RIGHTS:
                starts = range(0, len(content) - _INT + 1, _INT)
                self._descriptors.extend(int.from_bytes(content[at : at + _INT], sys.byteorder) for at in starts)
        if flags & sockets.MSG_CTRUNC:
            # This process has too many open files; each message brings one descriptor at most.
            self._descriptors.append(_LOST)
        if not data or self.is_broken:
            raise ChannelClosedError
        self._in += data
        messages, is_valid = self._decode_complete()
        if not (messages or is_valid):
            raise ChannelClosedError
        return messages

    @property
    def has_descriptor(self) -> bool:
        """Whether `take_descriptor` has a received descriptor, or one that could not be received."""
        return bool(self._descriptors)

    def take_descriptor(self) -> int:
        """Return the next received descriptor; the caller closes it.

        Raises:
            OSError: This process had too many open files to receive it.
        """
        descriptor = self._descriptors.pop(0)
        if descriptor == _LOST:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return descriptor

    def close(self) -> None:
        """Close the socket and the descriptors that were not taken."""
        for descriptor in self._descriptors:
            if descriptor != _LOST:
                os.close(descriptor)
        self._descriptors.clear()
        self._end.close()

    def _decode_complete(self) -> tuple[list[Any], bool]:
        """Return the messages that have arrived whole, and whether all bytes are of messages."""
        messages: list[Any] = []
        start, waiting = 0, self._in
        while len(waiting) - start >= _HEADER:
            content = start + _HEADER
            if not waiting.startswith(_MARK, start):
                self._break()
                break
            length = int.from_bytes(waiting[content - _LENGTH : content], "little")
            end = content + length
            if length > self._max_message:
                self._break()
                break
            if len(waiting) < end:
                break
            try:
                messages.append(loads(waiting[content:end]))
            except (ValueError, TypeError, EOFError, MemoryError, OverflowError, SystemError):
                self._break()
                break
            start = end
        if start:
            del waiting[:start]
        return messages, not self.is_broken

    def _break(self) -> None:
        """Close the connection for both ends; this one is readable from now on."""
        self.is_broken = True
        with contextlib.suppress(OSError):
            self._end.shutdown(sockets.SHUT_RDWR)
