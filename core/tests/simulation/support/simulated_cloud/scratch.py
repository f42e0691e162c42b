"""Folder for the database of a simulation."""

from __future__ import annotations

import tempfile
from pathlib import Path

__all__ = ["scratch_folder"]


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder, in memory where possible: a simulation syncs its database thousands of times."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="cloud-tasks-simulation-", dir=memory if memory.is_dir() else None)
