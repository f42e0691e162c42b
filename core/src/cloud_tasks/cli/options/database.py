"""Path of a command's job database, and opening it for reading."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from cloud_tasks.config import JobConfig
from cloud_tasks.errors import InputError, StoreError
from cloud_tasks.store import Store, is_job_database

__all__ = ["database_of", "database_path", "read_database"]


def database_of(config: JobConfig) -> Path:
    """Return the path of the job database, as `database_path`, for a command that uses it.

    Raises:
        InputError: No job is given, or its database is in the current folder, and not beside the configuration file.
    """
    path = database_path(config)
    former = Path(path.name)
    if not config.run.db_file and not path.exists() and is_job_database(former):
        raise InputError(
            f"job {config.run.job_id} has its database in the current folder, and not beside the configuration file",
            where=str(path),
            hint=f"add --db-file {former}, or move {former} there; for a new job, add --db-file {path}",
        )
    return path


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
