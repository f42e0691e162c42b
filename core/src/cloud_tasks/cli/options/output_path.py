"""Path of an output file, which must not overwrite what a job is made of.

Invariant, with a test: no command writes its output to a job database, or to the configuration, task file or startup
script of its job, whatever the name: relative, absolute, a symbolic or a hard link.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cloud_tasks.config import JobConfig, script_path
from cloud_tasks.errors import InputError
from cloud_tasks.store import is_job_database, side_files

__all__ = ["check_output_path"]


def check_output_path(
    output: Path | None,
    config: JobConfig,
    database: Path,
    *,
    task_sources: tuple[str | None, ...] = (),
    option: str = "--output",
) -> None:
    """Raise `InputError` if an output file would overwrite one of the job's own files.

    Args:
        output: None: standard output, which passes.
        task_sources: Task sources of the job besides that of the configuration, as the user wrote them.
        option: Option that names the output file.
    """
    if output is None:
        return
    kind = next((kind for kind, path in _own_files(config, database, task_sources) if _is_same(output, path)), None)
    if kind is None and is_job_database(output):
        kind = "a job database"
    if kind is not None:
        raise InputError(f"{output}: cannot overwrite {kind}", where=option, hint="choose another path")


def _own_files(config: JobConfig, database: Path, task_sources: tuple[str | None, ...]) -> Iterator[tuple[str, Path]]:
    yield "the job database", database
    for path in (*side_files(database), database.with_name(f"{database.name}.lock")):
        yield "a file of the job database", path
    if config.file is not None:
        yield "the configuration file", config.file
    for source in (config.task_source, *task_sources):
        # As in json:tasks.json and tasks.py:function.
        for name in {source, source.partition(":")[2], source.rpartition(":")[0]} - {""} if source else ():
            yield "the task file", config.base_dir / name
            yield "the task file", Path(name)
    if config.run.startup_script_file is not None:
        origin = config.origins.get("run.startup_script_file")
        yield "the startup script", script_path(config.run.startup_script_file, origin, config.base_dir)


def _is_same(output: Path, path: Path) -> bool:
    try:
        return os.path.samefile(output, path)
    except (OSError, ValueError):
        # One of them does not exist yet, as the log of a database that is not open.
        return os.path.realpath(output) == os.path.realpath(path)
