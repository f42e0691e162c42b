"""Removal of scratch folders, in a thread."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from cloud_tasks.worker.common.private_api import simple_queue

if TYPE_CHECKING:
    from queue import SimpleQueue

__all__ = ["ScratchCleaner"]


class ScratchCleaner:
    """Removes the scratch folders of ended attempts, and all that are left at the end.

    Args:
        root: Parent of the scratch folders.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._paths: SimpleQueue[str | None] = simple_queue()
        self._thread: threading.Thread | None = None

    def remove(self, path: str) -> None:
        """Remove a folder soon."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="worker-scratch", daemon=True)
            self._thread.start()
        self._paths.put(path)

    def close(self) -> None:
        """Remove all folders."""
        if self._thread is not None:
            self._paths.put(None)
            self._thread.join()
        if os.path.isdir(self._root):
            _remove(self._root)

    def _run(self) -> None:
        for path in iter(self._paths.get, None):
            _remove(path)


def _remove(path: str) -> None:
    import shutil

    try:
        shutil.rmtree(path, ignore_errors=True)
    except Exception:
        # A tree deeper than the interpreter's stack, which a task may leave.
        import subprocess

        try:
            subprocess.run(["rm", "-rf", "--", path], check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError:
            return
