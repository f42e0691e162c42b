"""The claim of a queue by one controller: a locked file beside the queue, released by the system with its process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from cloud_tasks_local.private_files import StateFolder

__all__ = ["ControllerClaim"]


class ControllerClaim:
    """The claim of one queue.

    Args:
        queue: File of the queue.
        state: Folder of the queues' folder.
        job_id: Job of the controller; empty if it is unknown.
    """

    def __init__(self, queue: Path, state: StateFolder, job_id: str = "") -> None:
        self._state = state
        self._job_id = job_id
        self._path = queue.with_name(queue.name + ".controller")
        self._descriptor = -1

    def take(self) -> bool:
        """Take the claim; return False if another process, or another object of this one, has it."""
        if self._descriptor >= 0:
            return True
        self._state.make(self._path.parent)
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_current = os.path.samestat(os.fstat(descriptor), os.stat(self._path))
            except BlockingIOError:
                os.close(descriptor)
                return False
            except FileNotFoundError:
                is_current = False
            if is_current:
                break
            # The last holder removed the file between open and lock.
            os.close(descriptor)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()} {self._job_id}".encode())
        self._descriptor = descriptor
        return True

    def holder(self) -> tuple[str, str]:
        """Return the holder as ``PID <number>``, and its job; empty if no process has the claim."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return "", ""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            number, _, job_id = os.read(descriptor, 256).decode("utf-8", "replace").partition(" ")
            return f"PID {number}", job_id
        finally:
            os.close(descriptor)
        return "", ""

    def release(self) -> None:
        """Release the claim; idempotent."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = -1
