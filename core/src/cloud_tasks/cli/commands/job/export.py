"""``cloud-tasks export``: tasks, attempts and events for other programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, verbose_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.database import database_of, read_database
from cloud_tasks.errors import InputError
from cloud_tasks.model import TaskStatus
from cloud_tasks.registry import Registry
from cloud_tasks.report.data.export import FORMATS, KINDS, export_rows, replacing

__all__ = ["export"]


def export(registry: Registry) -> click.Command:
    """Make the command; its options are those of core and of the installed plugins."""

    @click.command(
        "export",
        epilog=examples(
            "cloud-tasks export tasks --config config.yml --output tasks.csv",
            "cloud-tasks export tasks --config config.yml --where failed,timed_out --format jsonl",
            "cloud-tasks export events --db-file sums.db --output events.parquet",
        ),
    )
    @click.argument("kind", type=click.Choice(list(KINDS)), metavar="{tasks|attempts|events}")
    @click.option(
        "--format",
        "file_format",
        type=click.Choice(FORMATS),
        help="By default as the ending of --output says, else csv.",
    )
    @click.option(
        "--output",
        "-o",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Write to this file instead of standard output.",
    )
    @click.option("--where", metavar="STATUS[,STATUS]", help="Only tasks of these statuses.")
    @verbose_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Write the tasks, attempts or events of a job as CSV, JSON Lines or Parquet, from its database alone."""
        app.start_logging(verbosity=values["verbose"])
        chosen, statuses = _format(values), _statuses(values)
        database = database_of(load_from_options(app.registry, values))
        read_database(database).close()
        output: Path | None = values["output"]
        if output is None:
            export_rows(database, values["kind"], chosen, sys.stdout.buffer, statuses=statuses)
            sys.stdout.buffer.flush()
            return
        with replacing(output) as file:
            count = export_rows(database, values["kind"], chosen, file, statuses=statuses)
        click.echo(f"Wrote {count} {values['kind']} to {output}", err=True)

    return command


def _format(values: Mapping[str, Any]) -> str:
    asked: str | None = values["file_format"]
    output: Path | None = values["output"]
    found = asked or ("csv" if output is None else output.suffix.lower().removeprefix("."))
    if found not in FORMATS:
        raise InputError(f'the ending ".{found}" tells no format', where="--output", hint="give --format")
    if found == "parquet" and output is None and sys.stdout.isatty():
        raise InputError("Parquet is nothing for a terminal", hint="give --output")
    return found


def _statuses(values: Mapping[str, Any]) -> frozenset[TaskStatus] | None:
    if values["where"] is None:
        return None
    if values["kind"] != "tasks":
        raise InputError("it chooses tasks", where="--where", hint="leave it out, or export tasks")
    known = {status.value: status for status in TaskStatus}
    names = [name.strip().replace("-", "_").lower() for name in values["where"].split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise InputError(f'there is no status "{name}"', where="--where", hint=f"choose from {', '.join(known)}")
    if not names:
        raise InputError("no status is named", where="--where", hint=f"choose from {', '.join(known)}")
    return frozenset(known[name] for name in names)
