"""Path of a command's job database, and opening it for reading."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from cloud_tasks.config import JobConfig
from cloud_tasks.errors import InputError, StoreError
from cloud_tasks.store import Store

__all__ = ["database_of", "read_database"]


def database_of(config: JobConfig) -> Path:
    """Return the path of the job database: as configured, else from the job id. Raises `InputError` without a job."""
    if config.run.db_file:
        origin = config.origins.get("run.db_file")
        # As the user names the folder, for messages.
        folder = config.file.parent if config.file is not None and origin is not None and origin.is_in_file else Path()
        return folder / Path(config.run.db_file).expanduser()
    if config.run.job_id:
        return Path(f"{config.run.job_id}.db")
    raise InputError("no job given", hint="add --db-file, --job-id or --config")


@contextlib.contextmanager
def read_database(path: Path, *, job_id: str | None = None) -> Iterator[Store]:
    """Open a job database for reading. Raises `InputError` where it cannot be read, since the user named it."""
    try:
        with Store.open(path, job_id=job_id, read_only=True) as store:
            yield store
    except StoreError as error:
        raise InputError(error.message, hint=error.hint) from error
