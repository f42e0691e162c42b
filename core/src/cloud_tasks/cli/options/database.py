"""Path of a command's job database, and opening it for reading.

Invariants, each with a test:

1. A job is found, or named: a database in the current folder is not overlooked for one beside the configuration file.
2. With its database, a job needs no option for the folders that were the defaults when it was started.
3. A database that was moved without its write-ahead log is refused before it is opened: it has not the latest changes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from cloud_tasks.config import JobConfig
from cloud_tasks.errors import CloudTasksError, InputError, StoreError
from cloud_tasks.store import Store, is_job_database

__all__ = ["database_of", "database_path", "read_database", "with_recorded_folders"]


def database_of(config: JobConfig) -> Path:
    """Return the path of the job database, as `database_path`, for a command that uses it.

    Raises:
        InputError: No job is given, or its database is in the current folder, and not beside the configuration file,
            or was moved from there without its write-ahead log.
    """
    path = database_path(config)
    former = Path(path.name)
    _check_moved(path, former)
    if not config.run.db_file and not path.exists() and is_job_database(former):
        raise InputError(
            f"job {config.run.job_id} has its database in the current folder, and not beside the configuration file",
            where=str(path),
            hint=f"add --db-file {former} to use it where it is; for a new job, add --db-file {path}",
        )
    return path


def _check_moved(path: Path, former: Path) -> None:
    """Refuse a database whose write-ahead log was left in the current folder."""
    log = Path(f"{former}-wal")
    with contextlib.suppress(OSError):
        if path.exists() and not os.path.lexists(former) and log.is_file() and log.stat().st_size:
            raise InputError(
                f"the database was moved without {log}, which has its latest changes",
                where=str(path),
                hint=f"move it to {path}-wal first; or delete it if it is of another job",
            )


def with_recorded_folders(config: JobConfig) -> JobConfig:
    """Return the configuration with the folders that its job was started with in place of their defaults.

    The default was relative to the current folder, or the configuration was elsewhere. A folder that does not exist is
    not used: the whole job may have been moved.
    """
    try:
        path = database_path(config)
        if not (keys := config.default_folders()) or not is_job_database(path):
            return config
        _check_moved(path, Path(path.name))
        with Store.open(path, job_id=config.run.job_id, read_only=True) as store:
            place = store.job.place
    except (CloudTasksError, OSError):
        # The command reports it if it needs the database or the plugin.
        return config
    found = {key: Path(place[key]) for key in keys if place.get(key) and Path(place[key]).is_dir()}
    return attrs.evolve(config, started_with=found) if found else config


def database_path(config: JobConfig) -> Path:
    """Return the path of the job database: as configured, else named after the job, beside the configuration file.

    Raises:
        InputError: No job is given.
    """
    if config.run.db_file:
        origin = config.origins.get("run.db_file")
        # As the user names the folder, for messages.
        folder = config.folder if origin is not None and origin.is_in_file else Path()
        return folder / Path(config.run.db_file).expanduser()
    if config.run.job_id:
        return config.folder / f"{config.run.job_id}.db"
    raise InputError("no job given", hint="add --db-file, --job-id or --config")


@contextlib.contextmanager
def read_database(path: Path, *, job_id: str | None = None) -> Iterator[Store]:
    """Open a job database for reading. Raises `InputError` where it cannot be read, since the user named it."""
    try:
        with Store.open(path, job_id=job_id, read_only=True) as store:
            yield store
    except StoreError as error:
        raise InputError(error.message, hint=error.hint) from error
