"""Where a simulation keeps its database."""

from __future__ import annotations

import tempfile
from pathlib import Path

__all__ = ["scratch_folder"]


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder in memory where the system has one: the simulation syncs its database thousands of times."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="cloud-tasks-simulation-", dir=memory if memory.is_dir() else None)
