"""Where events must be before a task is acked: the event log, the event queue.

Invariants, each with a test:

1. The event log never holds half a line, and what an earlier run left cut is not joined to what follows.
2. A message holds as many events as fit, and none is over the queue's limit where that is possible.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from cloud_tasks.errors import CloudTasksError, InputError

if TYPE_CHECKING:
    from cloud_tasks.plugin import Queue

__all__ = ["EventFile", "EventQueue", "MainSink", "pack"]


class MainSink(Protocol):
    """Where events must be before a task is acked."""

    def write(self, events: Sequence[bytes]) -> None:
        """Make them durable; raises when they may not be."""

    def close(self) -> None: ...


class EventQueue:
    """The job's event queue: as many events in a message as fit."""

    def __init__(self, queue: Queue, *, max_message_bytes: int) -> None:
        self._queue = queue
        self._limit = max_message_bytes

    def write(self, events: Sequence[bytes]) -> None:
        bodies = list(pack(events, self._limit))
        while bodies:
            failures = self._queue.send(bodies)
            if not failures:
                return
            refused = [failure for failure in failures if not failure.transient]
            if len(failures) == len(bodies):
                raise CloudTasksError(f"{len(failures)} messages were not sent: {failures[0].reason}")
            if refused and len(refused) == len(failures):
                raise CloudTasksError(f"{len(refused)} messages were refused: {refused[0].reason}")
            bodies = [bodies[failure.index] for failure in failures]

    def close(self) -> None:
        self._queue.close()


def pack(events: Sequence[bytes], limit: int) -> Sequence[bytes]:
    """Message bodies of at most ``limit`` bytes where that is possible, the events in their order."""
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


class EventFile:
    """The event log: a file of JSON lines, appended to, never left with half a line."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", where=path) from error
        self._regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        self._end_last_line()

    def _end_last_line(self) -> None:
        """A run that was cut off may have left half a line: what follows must not be joined to it."""
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
