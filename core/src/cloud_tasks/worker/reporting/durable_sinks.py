"""Durable sinks, which have the events of a task before it is acked: the event log and the event queue.

Invariants, each with a test:

1. The event log contains complete lines only; a line that an earlier run left incomplete is ended before the next.
2. A message holds as many events as fit. It exceeds the queue's limit only if a single event does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.worker.common.formatting import counted

if TYPE_CHECKING:
    from cloud_tasks.plugin import Queue

__all__ = ["DurableSink", "EventFile", "EventQueue", "pack"]


class DurableSink(Protocol):
    """A sink that has the events of a task on disk, or at a queue service, before the task is acked."""

    def write(self, events: Sequence[bytes]) -> None:
        """Make events durable; raise an exception if they may not be."""

    def close(self) -> None:
        """Close the sink."""


class EventQueue:
    """Event queue of a job."""

    def __init__(self, queue: Queue, *, max_message_bytes: int) -> None:
        self._queue = queue
        self._limit = max_message_bytes

    def write(self, events: Sequence[bytes]) -> None:
        bodies = list(pack(events, self._limit))
        while bodies:
            failures = self._queue.send(bodies)
            if not failures:
                return
            rejected = [failure for failure in failures if not failure.transient]
            if len(failures) == len(bodies):
                raise CloudTasksError(f"cannot send {counted(len(failures), 'message')}: {failures[0].reason}")
            if rejected and len(rejected) == len(failures):
                raise CloudTasksError(
                    f"the event queue rejected {counted(len(rejected), 'message')}: {rejected[0].reason}"
                )
            bodies = [bodies[failure.index] for failure in failures]

    def close(self) -> None:
        self._queue.close()


def pack(events: Sequence[bytes], limit: int) -> Sequence[bytes]:
    """Return message bodies with the events in order, of at most ``limit`` bytes unless a single event is longer."""
    bodies: list[bytes] = []
    batch: list[bytes] = []
    size = 2
    for event in events:
        if batch and size + len(event) + 1 > limit:
            bodies.append(b"[" + b",".join(batch) + b"]")
            batch, size = [], 2
        batch.append(event)
        size += len(event) + 1
    if batch:
        bodies.append(b"[" + b",".join(batch) + b"]")
    return bodies


def _unfollowed(path: str) -> int:
    """Return the flag for not following a link, which another user may have planted; devices are links."""
    return 0 if path.startswith(("/dev/", "/proc/")) else os.O_NOFOLLOW


class EventFile:
    """Event log: a file of JSON lines, to which events are appended."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | _unfollowed(path), 0o644
            )
        except OSError as error:
            if os.path.islink(path):
                raise InputError("a symbolic link", where=path, hint="name the file that it points to") from error
            raise InputError(f"cannot write: {error.strerror}", where=path) from error
        self._regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        self._end_last_line()

    def _end_last_line(self) -> None:
        """End a line that a killed run left incomplete."""
        if not self._regular or os.fstat(self._descriptor).st_size == 0:
            return
        with open(self.path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                os.write(self._descriptor, b"\n")

    def write(self, events: Sequence[bytes]) -> None:
        size = os.fstat(self._descriptor).st_size
        rest = memoryview(b"\n".join(events) + b"\n")
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            if self._regular:
                os.fdatasync(self._descriptor)
        except OSError:
            if self._regular:
                os.ftruncate(self._descriptor, size)
            raise

    def close(self) -> None:
        os.close(self._descriptor)
