"""Spool: a queue of reports on disk, for reports that cannot be delivered at the moment.

A file holds a header, then for each report its events, one per line, and a line ``{"report": [...]}`` that ends it.
The header has the number of bytes that were read, and the destination of the reports. The process that uses a file
locks it.

Invariants, each with a test:

1. Without an outage no file and no folder is created.
2. Reports are returned once, in order and complete; those of a killed process, by the next one in the same folder.
3. The files never exceed the limit together; reports that the limit or the disk rejects stay with the caller.
4. A report that a killed process wrote only in part is ignored.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import IO, Any

from cloud_tasks.worker.common.formatting import format_bytes
from cloud_tasks.worker.reporting.report import Report

__all__ = ["Spool"]

_FILE_BYTES = 16 * 1024 * 1024
"""Size from which on another file is created, so that files that were read can be removed."""
_SUFFIX = ".spool"
_READ_OFFSET, _READ_DIGITS = len('{"spool":1,"read":"'), 16


class Spool:
    """Reports on disk. Used by one thread.

    Args:
        folder: Folder of the files, created for the first report.
        destination: Identifies job and sinks of the reports; files with another destination are ignored.
        limit: Maximum bytes of all files together; 0 to keep none.
    """

    def __init__(self, folder: str, *, destination: str, limit: int) -> None:
        self.folder = folder
        self._had_parent = os.path.isdir(os.path.dirname(folder))
        self._destination = destination
        self._limit = limit
        self._files: deque[_File] = deque()
        self._written: _File | None = None
        self.problem = ""
        """Reason for which the last report was not accepted; empty for none."""

    def take_over(self) -> None:
        """Add the files that exited processes left for the same destination; they are read first."""
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
        """Return whether it has reports."""
        return bool(self._files)

    @property
    def paths(self) -> list[str]:
        """Paths of the files, in the order in which they are read."""
        return [file.path for file in self._files]

    @property
    def size(self) -> int:
        """Number of bytes on disk."""
        return sum(file.end for file in self._files)

    def put(self, reports: Sequence[Report]) -> int:
        """Append reports; return how many of them, in order, were accepted."""
        taken = 0
        self.problem = ""
        for batch in _chunks(reports):
            content = b"".join(_encoded(report) for report in batch)
            if self.size + len(content) > self._limit:
                self.problem = f"the limit is {format_bytes(self._limit)} (event_spool_bytes)"
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
        """Return the first reports, which stay until `drop`.

        Args:
            count: Maximum number of reports.
            size: Maximum bytes, which only a single report may exceed.
        """
        while self._files:
            reports = self._files[0].read(count, size)
            if reports:
                return reports
            # The rest is a report that a killed process wrote in part.
            self._files[0].skip()
            self._drop_read()
        return []

    def drop(self, count: int) -> None:
        """Remove the first reports."""
        left = count
        while left and self._files:
            left -= self._files[0].advance(left)
            self._drop_read()

    def close(self) -> None:
        """Close the files; those with reports stay on disk."""
        self._drop_read()
        while self._files:
            self._files.popleft().close()
        self._written = None

    def _file_to_write(self) -> _File:
        if self._written is None or self._written.end > _FILE_BYTES:
            self._make_folder()
            self._written = _File.new(self.folder, self._destination)
            self._files.append(self._written)
        return self._written

    def _make_folder(self) -> None:
        """Create the folder; folders above it only if they never existed: one that was renamed is not created again."""
        parent = os.path.dirname(self.folder)
        if not self._had_parent:
            os.makedirs(parent, mode=0o700, exist_ok=True)
            self._had_parent = True
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.folder, 0o700)

    def _drop_read(self) -> None:
        removed = False
        while self._files and self._files[0].is_read:
            file = self._files.popleft()
            if file is self._written:
                self._written = None
            file.remove()
            removed = True
        if removed and not self._files:
            # Other processes may have files in it.
            with contextlib.suppress(OSError):
                os.rmdir(self.folder)


class _File:
    """One file, locked while it is open."""

    def __init__(self, path: str, file: IO[bytes], *, start: int, end: int, is_own: bool) -> None:
        self.path = path
        self._file = file
        self._read = start
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
            header = f'{{"spool":1,"read":"{0:0{_READ_DIGITS}d}","for":{json.dumps(destination)}}}\n'.encode()
            made = cls(path, file, start=len(header), end=0, is_own=True)
            made.append(header)
        except OSError:
            file.close()
            os.unlink(path)
            raise
        return made

    @classmethod
    def of(cls, path: str, destination: str) -> _File | None:
        """Open an existing file; return None if it is locked, has another destination, or is not a spool."""
        try:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CLOEXEC), "r+b", buffering=0)
        except OSError:
            return None
        try:
            _lock(file.fileno())
            header = os.pread(file.fileno(), 1 << 16, 0).split(b"\n", 1)[0] + b"\n"
            found = json.loads(header)
            if found["for"] == destination and os.stat(path).st_ino == os.fstat(file.fileno()).st_ino:
                start = max(int(found["read"]), len(header))
                return cls(path, file, start=start, end=os.fstat(file.fileno()).st_size, is_own=False)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        file.close()
        return None

    @property
    def is_read(self) -> bool:
        return self._read >= self.end

    def append(self, content: bytes) -> None:
        """Append content, all or nothing."""
        rest = memoryview(content)
        offset = self.end
        try:
            while rest:
                written = os.pwrite(self._file.fileno(), rest, offset)
                offset += written
                rest = rest[written:]
        except OSError:
            os.ftruncate(self._file.fileno(), self.end)
            raise
        self.end = offset

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
        """Advance past the first reports; return how many there were, up to ``count``."""
        if not self._ends:
            # The reports were put and not read yet.
            self.read(count, 1 << 62)
        passed = min(count, len(self._ends))
        for _ in range(passed):
            self._read = self._ends.popleft()
        if not passed:
            self.skip()
        # If this fails, the next process sends the reports again, with the same event ids.
        with contextlib.suppress(OSError):
            os.pwrite(self._file.fileno(), f"{self._read:0{_READ_DIGITS}d}".encode(), _READ_OFFSET)
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


def _chunks(reports: Sequence[Report]) -> Iterator[Sequence[Report]]:
    """Split reports for writing: 200 at a time, fewer if they are long."""
    chunk: list[Report] = []
    size = 0
    for report in reports:
        chunk.append(report)
        size += report.size
        if len(chunk) == 200 or size > 1 << 20:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _encoded(report: Report) -> bytes:
    body = None if report.next_body is None else report.next_body.decode("latin-1")
    fields = [len(report.events), report.sinks_done, report.lease_id, report.release, report.delay, body]
    ending = json.dumps({"report": fields}, separators=(",", ":")).encode()
    return b"".join(event + b"\n" for event in (*report.events, ending))


def _decoded(stream: IO[bytes], *, is_own: bool) -> Iterator[tuple[Report, int]]:
    """Yield the complete reports and the offset of the end of each."""
    offset = stream.tell()
    events: list[bytes] = []
    for line in stream:
        offset += len(line)
        if not line.endswith(b"\n"):
            return
        if not line.startswith(b'{"report":'):
            events.append(line[:-1])
            continue
        try:
            number, sinks_done, lease_id, release, delay, body = json.loads(line)["report"]
            first = max(0, len(events) - number)
            report = _report(events[first:], sinks_done, lease_id, release, delay, body, is_own=is_own)
        except (ValueError, TypeError, AttributeError, RecursionError):
            events = []
            continue
        yield report, offset
        events = []


def _report(
    events: Sequence[bytes], sinks_done: int, lease_id: Any, release: bool, delay: float, body: Any, *, is_own: bool
) -> Report:
    if not is_own and (body is not None or release):
        # The lease of an earlier process expires: the queue delivers the same attempt again.
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
