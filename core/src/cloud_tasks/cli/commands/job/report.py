"""``cloud-tasks report``: write the report of a job from its database, at any time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, output_option, verbose_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.database import database_of, read_database
from cloud_tasks.cli.options.job_end import after_failures
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.errors import InputError
from cloud_tasks.registry import Registry
from cloud_tasks.report import (
    ReportFacts,
    gather_facts,
    output_file,
    render_final_report,
    render_markdown,
    render_page,
    report_dict,
)
from cloud_tasks.store import job_time

__all__ = ["report"]


def _as_text(facts: ReportFacts) -> str:
    return render_final_report(facts.statistics, facts.elapsed, next_steps=facts.next_steps) + "\n"


_FORMATS: Mapping[str, Callable[[ReportFacts], str]] = {
    "text": _as_text,
    "json": lambda facts: json.dumps(report_dict(facts), indent=2) + "\n",
    "markdown": render_markdown,
    "html": render_page,
}
_SUFFIXES = {".txt": "text", ".json": "json", ".md": "markdown", ".html": "html", ".htm": "html"}


def report(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "report",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks report --config config.yml",
            "cloud-tasks report --db-file sums.db --output report.html",
            "cloud-tasks report --job-id sums --format markdown",
        ),
    )
    @click.option(
        "--format",
        "report_format",
        type=click.Choice(list(_FORMATS)),
        help="Output format (default: by the extension of --output, else text).",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON; same as --format json.")
    @output_option("--output", "-o", help="Path of the output file; -: standard output (default).")
    @verbose_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Write the report of a finished, running or stopped job from its database.

        An existing file is overwritten only if it is empty, an export or a report.
        """
        app.start_logging(verbosity=values["verbose"])
        chosen = _format(values)
        config = load_from_options(app.registry, values)
        database = database_of(config)
        with read_database(database) as store:
            store.check_content()
            facts = gather_facts(database, job_time(store))
        text = _FORMATS[chosen](attrs.evolve(facts, next_steps=after_failures(facts.statistics, config)))
        output: Path | None = values["output"]
        if output is None:
            echo(text, nl=False)
            return
        with output_file(output) as file:
            file.write(text.encode())
        echo(f"Wrote {output}", err=True)

    return command


def _format(values: Mapping[str, Any]) -> str:
    given: str | None = values["report_format"]
    if values["as_json"]:
        if given not in (None, "json"):
            raise InputError(f"--json and --format {given} exclude each other", hint="give one of them")
        return "json"
    if given is not None:
        return given
    output: Path | None = values["output"]
    if output is None:
        return "text"
    found = _SUFFIXES.get(output.suffix.lower())
    if found is None:
        raise InputError(f'unknown file extension "{output.suffix}"', where="--output", hint="add --format")
    return found
