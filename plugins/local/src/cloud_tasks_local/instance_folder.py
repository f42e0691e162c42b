"""Folder of one instance: its records on disk and its lock. Standard library only.

Invariants, each with a test:

1. ``instance.json`` is complete before anything is started, so every running instance can be found.
2. A process that starts or terminates an instance holds ``alive.lock``. The runner process holds it for its whole life,
   however it is killed; liveness is never derived from process ids.
3. ``ended.json`` is written once, with the lock held; afterwards the instance is never started again.
4. Reading records and liveness writes nothing: it works on a full or read-only disk.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloud_tasks_local.private_files import write_private

__all__ = ["InstanceFolder", "InstanceLockedError"]


class InstanceLockedError(Exception):
    """Another process holds the instance's lock."""


class InstanceFolder:
    """Records and lock of one instance.

    Args:
        path: Absolute path of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.instance = path / "instance.json"
        self.process = path / "process.json"
        self.notice = path / "notice.json"
        self.ended = path / "ended.json"
        self.terminating = path / "terminating"
        self.script = path / "startup.sh"
        self.console = path / "console.log"
        self.work = path / "work"
        self._lock = path / "alive.lock"

    def write(self, file: Path, content: Mapping[str, Any]) -> None:
        """Replace a record atomically."""
        os.replace(self._draft(file, content), file)

    def write_once(self, file: Path, content: Mapping[str, Any]) -> bool:
        """Write a new record atomically; return False and keep the existing one if there is one."""
        draft = self._draft(file, content)
        try:
            os.link(draft, file)
        except FileExistsError:
            return False
        finally:
            os.unlink(draft)
        return True

    def read(self, file: Path) -> dict[str, Any] | None:
        """Return a record; None when it does not exist. Raise `ValueError` when it is damaged."""
        try:
            content = json.loads(file.read_bytes())
        except FileNotFoundError:
            return None
        if not isinstance(content, dict):
            raise ValueError(f"{file} is not a valid record")
        return content

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the instance's lock. Raise `InstanceLockedError` at once when another process holds it."""
        with self._locked(fcntl.LOCK_EX, os.O_RDWR | os.O_CREAT):
            yield

    def is_held(self) -> bool:
        """Return whether the runner process lives, or another process holds the lock at this moment."""
        try:
            with self._locked(fcntl.LOCK_SH, os.O_RDONLY):
                return False
        except InstanceLockedError:
            return True
        except FileNotFoundError:
            # No process has held it yet.
            return False

    @contextmanager
    def _locked(self, kind: int, flags: int) -> Iterator[None]:
        descriptor = os.open(self._lock, flags | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise InstanceLockedError(str(self.path)) from error
        finally:
            os.close(descriptor)

    def _draft(self, file: Path, content: Mapping[str, Any]) -> Path:
        draft = file.with_name(f".{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            write_private(draft, json.dumps(content, indent=1) + "\n")
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        return draft
