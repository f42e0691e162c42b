"""Files that commands write: one check for the outputs of all commands.

Invariants, each with a test:

1. No command writes to the configuration, the startup script, another of its outputs, the task file, also the one that
   its job was created from, or, except its own job's, to a job database, whatever name or link the output is given by.
2. ``export`` and ``report`` replace only empty files, exports and reports, ``--dump-tasks`` only empty files and its
   own, and events are appended only to empty files and to events: any other file stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.cli.options.database import database_path
from cloud_tasks.config import JobConfig
from cloud_tasks.errors import InputError, StoreError
from cloud_tasks.model import TaskStatus
from cloud_tasks.store import Store, is_job_database, side_files

__all__ = ["check_output_files"]


@attrs.frozen
class _Output:
    option: str
    name: str
    path: Path
    replaceable: str | None = None
    """What an existing file must be to be written to; None where the writer checks it."""


def check_output_files(config: JobConfig, values: Mapping[str, Any]) -> None:
    """Refuse an output that would damage a file: an input or another output of the command, or a file of other origin.

    Args:
        values: The command's parameters by name, from click.

    Raises:
        InputError: An output is such a file.
    """
    outputs = list(_outputs(config, values))
    if not outputs:
        return
    files = list(_inputs(config, values))
    for output in outputs:
        for other, taken in files:
            if _is_same(output.path, taken):
                raise _refusal(output, f"is {other}")
        if output.name != _DATABASE:
            if is_job_database(output.path):
                raise _refusal(output, "is a job database")
            if output.replaceable is not None and not _is_replaceable(output.path, output.replaceable):
                raise _refusal(output, f"exists and is not {output.replaceable}")
        files.append((output.name, output.path))


_DATABASE = "the job database"
_DATA = "an export or report"
_EVENTS = "a file of events (JSON Lines)"
_DUMP = "a file of --dump-tasks"


def _refusal(output: _Output, reason: str) -> InputError:
    return InputError(f"{output.path} {reason}, and would be overwritten", where=output.option, hint="use another file")


def _inputs(config: JobConfig, values: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    if config.file is not None:
        yield "the configuration file", config.file
    if (script := config.startup_script_path()) is not None:
        yield "the startup script", script
    if values.get("sample_db") is not None:
        yield "the database of --sample-db", values["sample_db"]
    for spec in {values.get("task_file"), config.task_source, _recorded_source(config)}:
        for name in _paths_in(str(spec or "")):
            yield "the task file", Path(name).expanduser()
            yield "the task file", config.base_dir / name


def _recorded_source(config: JobConfig) -> str | None:
    """Return the task source that the job in the database was created from; None without a readable database."""
    if not (config.run.db_file or config.run.job_id) or not is_job_database(database := database_path(config)):
        return None
    try:
        with Store.open(database, read_only=True) as store:
            return store.job.task_source
    except StoreError:
        # The command reports it, if it needs the database.
        return None


def _paths_in(spec: str) -> set[str]:
    """Return the texts that may be the path in a task source, as in ``json:tasks.json`` and ``tasks.py:function``."""
    located = spec.partition(":")[2]
    return {
        "/dev/stdin" if text == "-" else text
        for text in (spec, located, spec.rpartition(":")[0], located.rpartition(":")[0])
        if text
    }


def _outputs(config: JobConfig, values: Mapping[str, Any]) -> Iterator[_Output]:
    # The commands that estimate a job have no database of it.
    if (config.run.db_file or config.run.job_id) and "sample_db" not in values:
        database = database_path(config)
        for path in (database, *side_files(database), database.with_name(f"{database.name}.lock")):
            yield _Output("--db-file", _DATABASE, path)
    for name, kind in (("output_file", _EVENTS), ("output", _DATA)):
        if isinstance(given := values.get(name), Path):
            yield _Output(f"--{name.replace('_', '-')}", "the output file", given, kind)
    if values.get("dump_tasks") and config.run.job_id:
        for status in TaskStatus:
            yield _Output("--dump-tasks", _DUMP, Path(f"{config.run.job_id}_{status.value}.json"), _DUMP)
    if "output_file" in values:
        # Both commands that write to event sinks have it.
        for sink in config.event_sinks:
            if isinstance(file := config.values.get(sink, {}).get("file"), Path):
                yield _Output(f"{sink}.file", f"the file of {sink}.file", file)


def _is_replaceable(path: Path, kind: str) -> bool:
    """Return whether a path is free, or a file of a kind; devices and pipes are written to and never replaced."""
    # The formats of reports are needed here only.
    from cloud_tasks import report

    known = {_DATA: report.is_export_or_report, _EVENTS: report.is_event_log, _DUMP: report.is_task_dump}
    try:
        return not path.is_file() or known[kind](path)
    except OSError:
        # It cannot be read, and thus not be recognized; where it cannot be written either, the writer reports that.
        return not os.access(path, os.W_OK)


def _is_same(path: Path, other: Path) -> bool:
    try:
        if path.exists() and other.exists():
            # A device or pipe is not overwritten.
            return path.is_file() and os.path.samefile(path, other)
        # A file system may not distinguish upper and lower case.
        return os.path.realpath(path).casefold() == os.path.realpath(other).casefold()
    except (OSError, ValueError):
        return False
