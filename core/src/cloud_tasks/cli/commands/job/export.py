"""``cloud-tasks export``: export tasks, attempts or events as CSV, JSON Lines or Parquet."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, output_option, verbose_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.database import database_of, read_database
from cloud_tasks.cli.options.statuses import parse_statuses
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo, until_closed
from cloud_tasks.errors import InputError
from cloud_tasks.model import TaskStatus
from cloud_tasks.quantities import counted
from cloud_tasks.registry import Registry
from cloud_tasks.report import FORMATS, KINDS, export_rows, output_file

__all__ = ["export"]


def export(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "export",
        cls=TopicCommand,
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
        help="Output format (default: by the extension of --output, else csv).",
    )
    @output_option("--output", "-o", help="Path of the output file; -: standard output (default).")
    @click.option(
        "--spreadsheet",
        is_flag=True,
        help="Put an apostrophe before text in CSV that a spreadsheet would take for a formula.",
    )
    @click.option("--where", metavar="STATUS[,STATUS]", help="Statuses of the exported tasks (default: all).")
    @verbose_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Export the tasks, attempts or events of a job from its database as CSV, JSON Lines or Parquet.

        In CSV, each member of an object in the columns result and data has a column of its own, too, such as
        result.loss or data.model.layers: at most 200 for each of the two, and five levels deep.

        An existing file is overwritten only if it is empty, an export or a report.
        """
        app.start_logging(verbosity=values["verbose"])
        chosen, statuses = _format(values), _statuses(values)
        config = load_from_options(app.registry, values)
        database = database_of(config)
        with read_database(database):
            _write(database, values, chosen, statuses)

    return command


def _write(database: Path, values: Mapping[str, Any], file_format: str, statuses: frozenset[TaskStatus] | None) -> None:
    def rows(out: BinaryIO) -> int:
        return export_rows(
            database, values["kind"], file_format, out, statuses=statuses, spreadsheet=values["spreadsheet"]
        )

    output: Path | None = values["output"]
    if output is None:
        with until_closed(1):
            rows(sys.stdout.buffer)
            sys.stdout.buffer.flush()
        return
    with output_file(output) as file:
        count = rows(file)
    echo(f"Wrote {counted(count, values['kind'].removesuffix('s'))} to {output}", err=True)


def _format(values: Mapping[str, Any]) -> str:
    given: str | None = values["file_format"]
    output: Path | None = values["output"]
    found = given or ("csv" if output is None else output.suffix.lower().removeprefix("."))
    if found not in FORMATS:
        raise InputError(f'unknown file extension ".{found}"', where="--output", hint="add --format")
    if found == "parquet" and output is None and sys.stdout.isatty():
        raise InputError("refusing to write Parquet (binary) to a terminal", hint="add --output FILE")
    return found


def _statuses(values: Mapping[str, Any]) -> frozenset[TaskStatus] | None:
    if values["where"] is None:
        return None
    if values["kind"] != "tasks":
        raise InputError("only tasks can be selected by status", where="--where", hint="omit it, or export tasks")
    return parse_statuses(values["where"], TaskStatus)
