"""Note of commands that find instances without the record of their job."""

from __future__ import annotations

from cloud_tasks.cli.options.database import database_of
from cloud_tasks.cli.output import echo
from cloud_tasks.config import JobConfig
from cloud_tasks.controller import place_of

__all__ = ["note_missing_record"]


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
