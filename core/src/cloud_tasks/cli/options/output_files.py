"""Files that a command writes must not be files that it reads.

Invariant, with a test: no command changes the task file, the configuration, the startup script or, except its own
job's, a database, whatever name or link an output file is given by.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cloud_tasks.cli.options.database import database_of
from cloud_tasks.config import JobConfig
from cloud_tasks.errors import InputError
from cloud_tasks.model import TaskStatus

__all__ = ["check_output_files"]


def check_output_files(config: JobConfig, values: Mapping[str, Any]) -> None:
    """Refuse an output file that is an input or another output of the command.

    Args:
        values: The command's parameters by name, from click.

    Raises:
        InputError: Two of the files are one.
    """
    files = list(_inputs(config, values))
    for option, name, path in _outputs(config, values):
        for other, taken in files:
            if _is_same(path, taken):
                raise InputError(f"{path} is {other}, and would be overwritten", where=option, hint="use another file")
        files.append((name, path))


def _inputs(config: JobConfig, values: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    if config.file is not None:
        yield "the configuration file", config.file
    if (script := config.startup_script_path()) is not None:
        yield "the startup script", script
    if values.get("sample_db") is not None:
        yield "the database of --sample-db", values["sample_db"]
    spec = str(values.get("task_file") or config.task_source or "")
    # A source may be named before the file, and a function behind it.
    for text in {spec, spec.partition(":")[0], spec.partition(":")[2]} - {""}:
        yield "the task file", Path("/dev/stdin" if text == "-" else text).expanduser()


def _outputs(config: JobConfig, values: Mapping[str, Any]) -> Iterator[tuple[str, str, Path]]:
    """Yield option, description and path of each output."""
    # The commands that estimate a job have no database of it.
    if (config.run.db_file or config.run.job_id) and "sample_db" not in values:
        database = database_of(config)
        for suffix in ("", "-wal", "-shm", "-journal"):
            yield "--db-file", "the job database", Path(f"{database}{suffix}")
    for name in ("output_file", "output"):
        if isinstance(path := values.get(name), Path):
            yield f"--{name.replace('_', '-')}", "the output file", path
    if values.get("dump_tasks") and config.run.job_id:
        for status in TaskStatus:
            yield "--dump-tasks", "a file of --dump-tasks", Path(f"{config.run.job_id}_{status.value}.json")


def _is_same(path: Path, other: Path) -> bool:
    try:
        if path.exists() and other.exists():
            # A device or pipe is not overwritten.
            return path.is_file() and os.path.samefile(path, other)
        # A file system may not distinguish upper and lower case.
        return os.path.realpath(path).casefold() == os.path.realpath(other).casefold()
    except (OSError, ValueError):
        return False
