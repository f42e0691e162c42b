"""The folder of one instance: what is known of it, on disk, for whoever comes next. Standard library only.

Invariants, each with a test:

1. ``instance.json`` is whole and there before anything is started: whatever runs can be found.
2. Whoever decides about the beginning or the end of an instance holds ``alive.lock``. Its machine holds it for as
   long as it lives, whatever kills it; process numbers are never asked who is alive.
3. ``ended.json`` is written once, with the lock held; after it nothing of this instance is ever started.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["InstanceFolder", "InstanceLockedError"]


class InstanceLockedError(Exception):
    """Somebody else holds the instance's lock."""


class InstanceFolder:
    """Reads and writes the records of one instance.

    Args:
        path: Absolute; the folder itself is made by `write_once`.
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
        """Replace a record in one step."""
        os.replace(self._draft(file, content), file)

    def write_once(self, file: Path, content: Mapping[str, Any]) -> bool:
        """Write a record that is not there yet, in one step; false where it is: it then stays as it was."""
        self.path.mkdir(parents=True, exist_ok=True)
        draft = self._draft(file, content)
        try:
            os.link(draft, file)
        except FileExistsError:
            return False
        finally:
            os.unlink(draft)
        return True

    def read(self, file: Path) -> dict[str, Any] | None:
        """A record, or None where it does not exist. Raises `ValueError` where it is damaged."""
        try:
            content = json.loads(file.read_bytes())
        except FileNotFoundError:
            return None
        if not isinstance(content, dict):
            raise ValueError(f"{file} is not a record")
        return content

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the instance's lock. Raises `InstanceLockedError` at once when its machine, or somebody deciding, has it."""
        with self._locked(fcntl.LOCK_EX):
            yield

    def is_held(self) -> bool:
        """Whether the instance's machine lives (or somebody decides about it at this moment)."""
        try:
            with self._locked(fcntl.LOCK_SH):
                return False
        except InstanceLockedError:
            return True

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise InstanceLockedError(str(self.path)) from error
        finally:
            os.close(descriptor)

    def _draft(self, file: Path, content: Mapping[str, Any]) -> Path:
        draft = file.with_name(f".{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
        draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return draft
