"""Which database a command means, and opening it to look."""

from __future__ import annotations

from pathlib import Path

from cloud_tasks.config import JobConfig
from cloud_tasks.errors import InputError, StoreError
from cloud_tasks.store import Store

__all__ = ["database_of", "read_database"]


def database_of(config: JobConfig) -> Path:
    """The job's database: as configured, else named after the job. Raises `InputError` where no job was named."""
    if config.run.db_file:
        return Path(config.run.db_file).expanduser()
    if config.run.job_id:
        return Path(f"{config.run.job_id}.db")
    raise InputError("no job was named", hint="give --db-file, --job-id or --config")


def read_database(path: Path, *, job_id: str | None = None) -> Store:
    """The database, open for reading. A file that cannot be used is bad input: the user named it."""
    try:
        return Store.open(path, job_id=job_id, read_only=True)
    except StoreError as error:
        raise InputError(error.message, hint=error.hint) from error
