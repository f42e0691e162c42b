"""Check of this machine as a provider, for ``doctor`` and before a run: a few calls of the file system."""

from __future__ import annotations

import os
from collections.abc import Iterator

from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks_local.settings import LocalSettings

__all__ = ["check_state_folder"]


def check_state_folder(settings: LocalSettings, context: CheckContext) -> Iterator[Finding]:
    """Check that the folder of queues and instances is writable, or can be created."""
    path = settings.state_dir
    existing = next(each for each in (path, *path.parents) if os.path.lexists(each))
    usable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    problem = "" if usable else "is not writable" if existing.is_dir() else "is not a folder"
    yield Finding(
        ok=usable,
        subject="state folder",
        message=f"{existing} {problem}" if problem else f"{path} is usable",
        remedy="choose another folder with --local-state-dir" if problem else "",
        prevents_run=True,
    )
