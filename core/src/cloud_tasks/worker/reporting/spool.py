"""The spool: reports that cannot be made at the moment, on disk, in the order in which they came.

A file holds a header, then for each report its events, a line each, and one line ``{"report": [...]}`` that ends it.
The header says how far the file has been read, in bytes, and for which job and sink it is. Its process has it locked.

Invariants, each with a test:

1. Without an outage nothing is written, no file and no folder.
2. What was put comes out once, in order, whole; what a killed process left, the next in the same folder takes over.
3. The files together have no more than the bound; where the disk takes less, what was refused stays with the caller.
4. What a killed process was writing as it died is passed over, never taken for a report.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import IO, Any

from cloud_tasks.worker.reporting.report import Report

__all__ = ["Spool"]

_FILE_BYTES = 16 * 1024 * 1024
"""From here on another file is begun, so that what was read gives its room back."""
_SUFFIX = ".spool"
_DONE_PLACE, _DONE_DIGITS = len('{"spool":1,"read":"'), 16


class Spool:
    """Reports on disk. Used by one thread.

    Args:
        folder: Made when the first report is put.
        destination: What the reports are for; files for another are left alone.
        limit: Bytes of all files together; 0: nothing is ever kept.
    """

    def __init__(self, folder: str, *, destination: str, limit: int) -> None:
        self.folder = folder
        self._destination = destination
        self._limit = limit
        self._files: deque[_File] = deque()
        self._written: _File | None = None
        self.problem = ""
        """Why the last report was not taken; empty: it was."""

    def take_over(self) -> None:
        """Take what processes that are gone left here for the same destination; it comes out first."""
        try:
            names = sorted(name for name in os.listdir(self.folder) if name.endswith(_SUFFIX))
        except OSError:
            return
        for name in names:
            file = _File.of(os.path.join(self.folder, name), self._destination)
            if file is not None:
                self._files.append(file)
        self._drop_read()

    def __bool__(self) -> bool:
        """Whether it holds anything."""
        return bool(self._files)

    @property
    def paths(self) -> list[str]:
        """The files, in the order in which they are read."""
        return [file.path for file in self._files]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.end for file in self._files)

    def put(self, reports: Sequence[Report]) -> int:
        """Write reports behind all others; returns how many were taken, the first ones."""
        taken = 0
        self.problem = ""
        for batch in _pieces(reports):
            content = b"".join(_encoded(report) for report in batch)
            if self.size + len(content) > self._limit:
                self.problem = f"it may have {self._limit} bytes"
                break
            try:
                self._file_to_write().append(content)
            except OSError as error:
                self.problem = error.strerror or str(error)
                self._drop_read()
                break
            taken += len(batch)
        return taken

    def get(self, count: int, size: int) -> list[Report]:
        """The first reports, at most so many, and bytes unless it is one; they stay until `drop`."""
        while self._files:
            reports = self._files[0].read(count, size)
            if reports:
                return reports
            # Nothing whole is left: what a killed process was writing.
            self._files[0].skip()
            self._drop_read()
        return []

    def drop(self, count: int) -> None:
        """The first so many are done."""
        left = count
        while left and self._files:
            left -= self._files[0].advance(left)
            self._drop_read()

    def close(self) -> None:
        """Let go of the files; those with reports in them stay."""
        self._drop_read()
        while self._files:
            self._files.popleft().close()
        self._written = None

    def _file_to_write(self) -> _File:
        if self._written is None or self._written.end > _FILE_BYTES:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            self._written = _File.new(self.folder, self._destination)
            self._files.append(self._written)
        return self._written

    def _drop_read(self) -> None:
        removed = False
        while self._files and self._files[0].is_read:
            file = self._files.popleft()
            if file is self._written:
                self._written = None
            file.remove()
            removed = True
        if removed and not self._files:
            # Others may have files in it.
            with contextlib.suppress(OSError):
                os.rmdir(self.folder)


class _File:
    """One file, locked for as long as it is open."""

    def __init__(self, path: str, file: IO[bytes], *, begin: int, end: int, is_own: bool) -> None:
        self.path = path
        self._file = file
        self._read = begin
        self.end = end
        self._is_own = is_own
        self._ends: deque[int] = deque()

    @classmethod
    def new(cls, folder: str, destination: str) -> _File:
        import time

        path = os.path.join(folder, f"{time.time_ns():020d}-{os.urandom(4).hex()}{_SUFFIX}")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        file = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            _lock(descriptor)
            header = f'{{"spool":1,"read":"{0:0{_DONE_DIGITS}d}","for":{json.dumps(destination)}}}\n'.encode()
            made = cls(path, file, begin=len(header), end=0, is_own=True)
            made.append(header)
        except OSError:
            file.close()
            os.unlink(path)
            raise
        return made

    @classmethod
    def of(cls, path: str, destination: str) -> _File | None:
        """A file that is there; None: it is another process's, for something else, or no spool."""
        try:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CLOEXEC), "r+b", buffering=0)
        except OSError:
            return None
        try:
            _lock(file.fileno())
            header = os.pread(file.fileno(), 1 << 16, 0).split(b"\n", 1)[0] + b"\n"
            found = json.loads(header)
            if found["for"] == destination and os.stat(path).st_ino == os.fstat(file.fileno()).st_ino:
                begin = max(int(found["read"]), len(header))
                return cls(path, file, begin=begin, end=os.fstat(file.fileno()).st_size, is_own=False)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        file.close()
        return None

    @property
    def is_read(self) -> bool:
        return self._read >= self.end

    def append(self, content: bytes) -> None:
        """All of it or nothing."""
        rest = memoryview(content)
        place = self.end
        try:
            while rest:
                written = os.pwrite(self._file.fileno(), rest, place)
                place += written
                rest = rest[written:]
        except OSError:
            os.ftruncate(self._file.fileno(), self.end)
            raise
        self.end = place

    def read(self, count: int, size: int) -> list[Report]:
        reports: list[Report] = []
        self._ends.clear()
        total = 0
        with os.fdopen(os.dup(self._file.fileno()), "rb", buffering=1 << 16) as stream:
            stream.seek(self._read)
            for report, end in _decoded(stream, is_own=self._is_own):
                if reports and total + report.size > size:
                    break
                reports.append(report)
                self._ends.append(end)
                total += report.size
                if len(reports) == count:
                    break
        return reports

    def advance(self, count: int) -> int:
        """Pass over the first so many reports, or all; returns how many."""
        if not self._ends:
            # They were put and not read back: they are the first all the same.
            self.read(count, 1 << 62)
        passed = min(count, len(self._ends))
        for _ in range(passed):
            self._read = self._ends.popleft()
        if not passed:
            self.skip()
        # Where this fails, the next process reports them again, with the same event ids.
        with contextlib.suppress(OSError):
            os.pwrite(self._file.fileno(), f"{self._read:0{_DONE_DIGITS}d}".encode(), _DONE_PLACE)
        return passed

    def skip(self) -> None:
        self._read = self.end

    def remove(self) -> None:
        os.unlink(self.path)
        self._file.close()

    def close(self) -> None:
        self._file.close()


def _lock(descriptor: int) -> None:
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _pieces(reports: Sequence[Report]) -> Iterator[Sequence[Report]]:
    """As they are written: some hundred at a time, one where they are long."""
    piece: list[Report] = []
    size = 0
    for report in reports:
        piece.append(report)
        size += report.size
        if len(piece) == 200 or size > 1 << 20:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _encoded(report: Report) -> bytes:
    body = None if report.next_body is None else report.next_body.decode("latin-1")
    fields = [len(report.events), report.sinks_done, report.lease_id, report.release, report.delay, body]
    ending = json.dumps({"report": fields}, separators=(",", ":")).encode()
    return b"".join(event + b"\n" for event in (*report.events, ending))


def _decoded(stream: IO[bytes], *, is_own: bool) -> Iterator[tuple[Report, int]]:
    """The whole reports and where each ends."""
    place = stream.tell()
    events: list[bytes] = []
    for line in stream:
        place += len(line)
        if not line.endswith(b"\n"):
            return
        if not line.startswith(b'{"report":'):
            events.append(line[:-1])
            continue
        try:
            number, sinks_done, lease_id, release, delay, body = json.loads(line)["report"]
        except (ValueError, TypeError):
            events = []
            continue
        yield (
            _report(events[max(0, len(events) - number) :], sinks_done, lease_id, release, delay, body, is_own=is_own),
            place,
        )
        events = []


def _report(
    events: Sequence[bytes], sinks_done: int, lease_id: Any, release: bool, delay: float, body: Any, *, is_own: bool
) -> Report:
    if not is_own and (body is not None or release):
        # Its lease has run out by now, or will: the queue brings the same attempt again, to be judged anew.
        lease_id, release, body = None, False, None
    report = Report(
        events,
        lease_id=lease_id,
        release=release,
        delay=delay,
        next_body=None if body is None else body.encode("latin-1"),
    )
    report.sinks_done = sinks_done
    return report
