"""Scratch folders: their parent, created before the first task, and their removal, in a thread.

Invariant, with a test: no task decides the permissions of the parent, which is only this user's.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from cloud_tasks.worker.common.os_errors import os_error_text
from cloud_tasks.worker.common.private_api import simple_queue
from cloud_tasks.worker.common.private_folder import create_private_folder

if TYPE_CHECKING:
    from queue import SimpleQueue

__all__ = ["ScratchCleaner"]


class ScratchCleaner:
    """Removes the scratch folders of ended attempts, and all that are left at the end.

    Args:
        root: Parent of the scratch folders.
        warn: Called with the first folder that cannot be removed, in any thread.
    """

    def __init__(self, root: str, warn: Callable[[str], None]) -> None:
        self._root = root
        self._warn = warn
        self._has_warned = False
        self._paths: SimpleQueue[str | None] = simple_queue()
        self._thread: threading.Thread | None = None

    def create(self) -> None:
        """Create the parent. If that is impossible, the first task that needs it reports why."""
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(self._root), exist_ok=True)
            create_private_folder(self._root)

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
        try:
            os.rmdir(self._root)
        except FileNotFoundError:
            return
        except OSError:
            self._remove(self._root)

    def _run(self) -> None:
        for path in iter(self._paths.get, None):
            self._remove(path)

    def _remove(self, path: str) -> None:
        _remove(path)
        if os.path.lexists(path) and not self._has_warned:
            self._has_warned = True
            self._warn(f"Cannot remove the scratch folder {path}: {_obstacle(path)}; remove it by hand")


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


def _obstacle(path: str) -> str:
    """Return the system's error for the first entry of a folder that cannot be removed."""
    import shutil

    try:
        shutil.rmtree(path)
    except OSError as error:
        return os_error_text(error)
    except Exception as error:
        return type(error).__name__
    return "it was in use"
