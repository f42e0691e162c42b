"""An event sink: a folder of Parquet files.

Events are first appended to a journal (JSON lines) beside the files. When that is long or old enough it becomes one
Parquet file, in pieces, so that memory does not depend on how many events there are.

Invariants, each with a test:

1. A file named ``*.parquet`` is complete, whenever the process is killed.
2. A flushed event survives a kill: what is in the journal of a dead process is made a file by the next that opens the
   folder, exactly once. Processes that live may share a folder.
3. Of the latest `_KNOWN` events none is written twice; before that, an event that comes again has the same event id.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from cloud_tasks.builtin.event_row import RecentEvents
from cloud_tasks.builtin.parquet_file import event_ids, require_pyarrow, write_events
from cloud_tasks.builtin.sinks import JsonLinesSink
from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.model import Event

__all__ = ["ParquetSink"]

log = structlog.get_logger()

_KNOWN = 50_000
_JOURNAL_BYTES = 256 * 2**20
"""Whatever the number of events, a journal is made a file at this size."""
# What begins with an underscore is passed over by those who read a folder of Parquet files as one table.
_JOURNAL = "_unfinished-{}.jsonl"
_LOCK = "_lock"


class ParquetSink:
    """Adds files to a folder, and makes the folder.

    Args:
        rows_per_file: Events after which a file is finished.
        interval: Seconds after which a file is finished though it is not full, when an event comes.

    Raises:
        InputError: pyarrow is not installed; the folder cannot be written to.
    """

    def __init__(self, folder: Path, *, rows_per_file: int, interval: float) -> None:
        require_pyarrow()
        self._folder = folder
        self._rows_per_file = rows_per_file
        self._interval = interval
        self._numbers = itertools.count(1)
        self._journal: _Journal | None = None
        self._recent = RecentEvents(_KNOWN)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder):
                self._recover()
        except OSError as error:
            raise InputError(f"cannot be written to: {error.strerror}", where=str(folder)) from error
        self._learn()

    def write(self, events: Sequence[Event]) -> None:
        new = self._recent.unseen(events)
        if not new:
            return
        if self._journal is None:
            with _locked(self._folder):
                name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{os.getpid()}-{next(self._numbers)}"
                self._journal = _Journal(self._folder, name)
        self._journal.write(new)
        self._recent.add(event.event_id for event in new)

    def flush(self) -> None:
        if self._journal is None:
            return
        self._journal.flush()
        if self._journal.is_due(self._rows_per_file, self._interval):
            self._finish(self._journal)

    def close(self) -> None:
        """Make the last file; does nothing the second time."""
        if self._journal is not None:
            self._journal.flush()
            self._finish(self._journal)
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    def _finish(self, journal: _Journal) -> None:
        """Make a journal a file. What fails is tried again later: the events are safe where they are."""
        try:
            _make_file(journal.path)
        except (OSError, CloudTasksError, ValueError) as error:
            journal.postpone()
            log.warning(f"A Parquet file could not be written and will be tried again: {error}")
            return
        journal.close()
        self._journal = None

    def _recover(self) -> None:
        """Make files of what dead processes left."""
        for path in sorted(self._folder.glob(_JOURNAL.format("*"))):
            with contextlib.suppress(BlockingIOError), _held(path):
                log.info(f"Finishing {path.name}, which an earlier run has left")
                _make_file(path)
        living = {path.stem for path in self._folder.glob(_JOURNAL.format("*"))}
        for path in self._folder.glob("_unfinished-*.tmp"):
            if path.stem not in living:
                path.unlink(missing_ok=True)

    def _learn(self) -> None:
        """Know the latest events of the newest files."""
        found: list[list[str]] = []
        for path in sorted(self._folder.glob("events-*.parquet"), reverse=True):
            if sum(map(len, found)) >= _KNOWN:
                break
            with contextlib.suppress(OSError, ValueError):
                found.append(event_ids(path, _KNOWN))
        for ids in reversed(found):
            self._recent.add(ids)


class _Journal:
    """The events of the file that is to be; held by this process for as long as it is open."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / _JOURNAL.format(name)
        self._sink = JsonLinesSink(self.path)
        with contextlib.ExitStack() as stack:
            stack.callback(self._sink.close)
            stack.enter_context(_held(self.path))
            self._stack = stack.pop_all()
        self._rows = 0
        self._began = time.monotonic()
        self._not_before = 0

    def write(self, events: Sequence[Event]) -> None:
        self._sink.write(events)
        self._rows += len(events)

    def flush(self) -> None:
        self._sink.flush()

    def is_due(self, rows: int, interval: float) -> bool:
        """Whether it is time to make it a file."""
        is_long = self._rows >= rows or self.path.stat().st_size >= _JOURNAL_BYTES
        return self._rows >= self._not_before and (is_long or time.monotonic() - self._began >= interval)

    def postpone(self) -> None:
        """Do not try again before there is a tenth more."""
        self._not_before = self._rows + max(1, self._rows // 10)

    def close(self) -> None:
        self._stack.close()


def _make_file(journal: Path) -> None:
    """The Parquet file of a journal, which goes. A file that is there already is that of this journal."""
    name = journal.name.removeprefix("_unfinished-").removesuffix(".jsonl")
    target = journal.with_name(f"events-{name}.parquet")
    if not target.exists():
        unfinished = journal.with_suffix(".tmp")
        try:
            rows = write_events(journal, unfinished)
            if rows:
                os.replace(unfinished, target)
                _sync_folder(journal.parent)
        finally:
            unfinished.unlink(missing_ok=True)
    journal.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """While journals are made and found, by one process at a time."""
    with (folder / _LOCK).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Own a journal. Raises `BlockingIOError` where a process that lives does."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
