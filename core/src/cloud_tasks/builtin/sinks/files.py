"""Event sinks: JSON Lines in a file, or on standard output."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from cloud_tasks.convert import event_to_json
from cloud_tasks.errors import InputError
from cloud_tasks.model import Event
from cloud_tasks.plugin import EventSinkContext

__all__ = ["ConsoleSink", "JsonLinesSink"]


def _lines(events: Sequence[Event]) -> str:
    return "".join(f"{json.dumps(event_to_json(event), separators=(',', ':'), default=str)}\n" for event in events)


class JsonLinesSink:
    """Sink that appends to a file, one JSON object per line. A batch is written completely or not at all.

    Raises:
        InputError: The file cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise InputError(f"cannot write the file: {error.strerror}", where=str(path)) from error
        self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)

    @classmethod
    def for_job(cls, context: EventSinkContext) -> JsonLinesSink:
        """Return the sink for the context's file, else for ``<job id>-events.jsonl`` in the context's folder."""
        return cls(context.output_file or context.base_dir / f"{context.job_id or 'cloud-tasks'}-events.jsonl")

    def write(self, events: Sequence[Event]) -> None:
        size = os.fstat(self._fd).st_size
        rest = memoryview(_lines(events).encode())
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            # The batch is written again: remove its part.
            if self._regular:
                os.ftruncate(self._fd, size)
            raise

    def flush(self) -> None:
        # Pipes and terminals cannot be synced.
        if self._regular:
            os.fsync(self._fd)

    def close(self) -> None:
        """Flush and close the file. Idempotent."""
        if self._fd >= 0:
            fd = self._fd
            try:
                self.flush()
            finally:
                self._fd = -1
                os.close(fd)


class ConsoleSink:
    """Sink that prints to standard output, one JSON object per line."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream

    def write(self, events: Sequence[Event]) -> None:
        self._stream.write(_lines(events))

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()
