"""The writer lock of a job database: an advisory lock file, released by the system when its process ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

from cloud_tasks.errors import StoreError

__all__ = ["WriterLock", "writer_of"]

_TRIES = 5
_PAUSE = 0.02
"""Seconds between two tries: `writer_of` of another process holds the lock for an instant."""


class WriterLock:
    """A lock on ``<database>.lock``, held until `release` or the end of this process.

    Raises:
        StoreError: Another process holds it; the message has its PID.
    """

    def __init__(self, database: Path) -> None:
        self.path = _lock_file(database)
        self._database = database
        self._fd = self._acquire(database)

    def _acquire(self, database: Path) -> int:
        while True:
            try:
                fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            except OSError as error:
                # ELOOP, since links are not followed.
                reason = f"{self.path.name} is a symbolic link" if self.path.is_symlink() else error.strerror
                raise StoreError(
                    f"{database}: cannot lock: {reason}", hint="choose another folder with --db-file"
                ) from error
            try:
                self._lock(fd)
            except OSError as error:
                holder = os.read(fd, 32).decode("ascii", "replace").strip()
                os.close(fd)
                raise StoreError(
                    f"{database}: in use by another cloud-tasks process{f' (PID {holder})' if holder else ''}",
                    hint="a job has one controller at a time; wait until that one ends, or stop it",
                ) from error
            if self._is_current(fd):
                with contextlib.suppress(OSError):
                    # For messages only: a full disk is no obstacle to the lock.
                    os.ftruncate(fd, 0)
                    os.write(fd, f"{os.getpid()}\n".encode())
                return fd
            # The last holder removed the file between open and lock.
            os.close(fd)

    @staticmethod
    def _lock(fd: int) -> None:
        for number in range(_TRIES):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if number == _TRIES - 1:
                    raise
                time.sleep(_PAUSE)

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.path))
        except FileNotFoundError:
            return False

    def renew(self) -> None:
        """Take the lock again where its file was deleted: the deleted one excludes no other process.

        Raises:
            StoreError: Another process took it meanwhile.
        """
        if self._fd >= 0 and not self._is_current(self._fd):
            lost, self._fd = self._fd, -1
            os.close(lost)
            self._fd = self._acquire(self._database)

    def release(self) -> None:
        """Release the lock and delete its file; idempotent, also after a call that a signal interrupted."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            if self._is_current(fd):
                self.path.unlink(missing_ok=True)
            os.close(fd)


def writer_of(database: Path) -> int | None:
    """Return the PID of the process that has a database open for writing, 0 if it is unknown; None if none has.

    The lock itself is the proof: the file and the PID in it outlive a process that was killed. Writes nothing.
    """
    try:
        fd = os.open(_lock_file(database), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 32).decode("ascii", "replace").strip()
        return int(holder) if holder.isdecimal() else 0
    except OSError:
        return None
    finally:
        os.close(fd)
    return None


def _lock_file(database: Path) -> Path:
    return database.with_name(database.name + ".lock")
