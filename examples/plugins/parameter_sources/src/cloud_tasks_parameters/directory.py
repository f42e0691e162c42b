"""Tasks from the files of a folder."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path

from cloud_tasks.errors import InputError
from cloud_tasks.model import Task
from cloud_tasks_parameters.settings import DirectorySettings

__all__ = ["DirectorySource"]


class DirectorySource:
    """One task per file, in order of the names; hidden files and links to folders are skipped.

    Memory holds one listing per level of folders, never the whole tree.

    Raises:
        InputError: The folder does not exist; during iteration, a folder cannot be read.
    """

    def __init__(self, folder: Path, settings: DirectorySettings) -> None:
        if not folder.is_dir():
            raise InputError("is not a folder", where=str(folder), hint="write directory:FOLDER")
        self._folder = folder
        self._settings = settings

    def __iter__(self) -> Iterator[Task]:
        return self._below(self._folder)

    def expected_length(self) -> int | None:
        return None

    def _below(self, folder: Path) -> Iterator[Task]:
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if self._settings.recursive:
                        yield from self._below(Path(entry.path))
                elif entry.is_file() and fnmatch.fnmatchcase(entry.name, self._settings.pattern):
                    file = Path(entry.path)
                    task_id = file.relative_to(self._folder).as_posix()
                    yield Task(task_id=task_id, data={"path": str(file), "size_bytes": entry.stat().st_size})
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", where=str(folder)) from error
