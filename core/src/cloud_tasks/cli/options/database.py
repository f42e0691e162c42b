"""Path of a command's job database, and opening it for reading."""

from __future__ import annotations

from pathlib import Path

from cloud_tasks.cli.output import echo
from cloud_tasks.config import JobConfig
from cloud_tasks.controller import place_of
from cloud_tasks.errors import InputError, StoreError
from cloud_tasks.store import Store

__all__ = ["database_of", "note_missing_record", "read_database"]


def database_of(config: JobConfig) -> Path:
    """Return the path of the job database: as configured, else from the job id. Raises `InputError` without a job."""
    if config.run.db_file:
        return Path(config.run.db_file).expanduser()
    if config.run.job_id:
        return Path(f"{config.run.job_id}.db")
    raise InputError("no job given", hint="add --db-file, --job-id or --config")


def note_missing_record(config: JobConfig) -> None:
    """Print to stderr that a job has no record here, and where its instances are looked for, where that is so."""
    if not config.run.job_id:
        return
    database = database_of(config)
    if database.exists():
        return
    place = place_of(config, ask=False)
    where = ", ".join(f"{key} {value}" for key, value in place.items() if "." in key and value)
    echo(
        f"No record of job {config.run.job_id}: {database.resolve()} not found; "
        f"only instances of this configuration are found{f' ({where})' if where else ''}",
        err=True,
    )


def read_database(path: Path, *, job_id: str | None = None) -> Store:
    """Open a job database for reading. Raises `InputError` where it cannot be used, since the user named it."""
    try:
        return Store.open(path, job_id=job_id, read_only=True)
    except StoreError as error:
        raise InputError(error.message, hint=error.hint) from error
