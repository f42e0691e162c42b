"""``cloud-tasks config``: show the merged configuration, or the schema of the configuration file."""

from __future__ import annotations

import json
from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, json_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.listing import echo_table
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.config import ConfigurationError, Entry, JobConfig, json_schema, secret_deliveries
from cloud_tasks.errors import CloudTasksError
from cloud_tasks.registry import Registry
from cloud_tasks.tables import Column

__all__ = ["config"]


_COLUMNS: tuple[Column[Entry], ...] = (
    Column(name="key", title="Key", value=lambda entry: entry.key),
    Column(name="value", title="Value", value=lambda entry: _text(entry.value), max_width=40),
    Column(name="origin", title="Origin", value=lambda entry: str(entry.origin)),
)
_EXPLANATION: Column[Entry] = Column(name="explanation", title="Explanation", value=lambda entry: entry.help)


def config(registry: Registry) -> click.Group:
    """Create the group; ``show`` has the options of core and the installed plugins."""

    @click.group("config")
    def group() -> None:
        """Show the merged configuration, or the JSON Schema of the configuration file."""

    @group.command(
        "show",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks config show --config config.yml",
            "cloud-tasks config show --config config.yml --explain",
            "cloud-tasks config show --config config.yml --max-cpu 8 --json",
        ),
    )
    @click.option("--explain", is_flag=True, help="Add a column with the meaning of each key.")
    @json_option
    @configuration_options(registry)
    @pass_app
    def show(app: AppContext, /, **values: Any) -> None:
        """Show each value of the merged configuration with its origin; secrets are masked."""
        app.warn_of_plugins()
        loaded = load_from_options(app.registry, values)
        for line in loaded.override_lines():
            echo(f"Warning: {line}", err=True)
        if values["as_json"]:
            echo(json.dumps(loaded.as_dict(with_origins=True), indent=2))
        else:
            echo_table(tuple(loaded.entries()), (*_COLUMNS, _EXPLANATION) if values["explain"] else _COLUMNS)
        _check_workers(loaded)

    @group.command("schema", epilog=examples("cloud-tasks config schema > cloud-tasks.schema.json"))
    @pass_app
    def schema(app: AppContext, /) -> None:
        """Print the JSON Schema of the configuration file, including the sections of the installed plugins."""
        app.warn_of_plugins()
        echo(json.dumps(json_schema(app.registry), indent=2))

    return group


def _check_workers(config: JobConfig) -> None:
    """Raise the problem of a startup script, or of a secret that would not reach the workers."""
    if config.has_startup_script:
        config.require_startup_script()
    try:
        secret_deliveries(config)
    except ConfigurationError:
        raise
    except CloudTasksError:
        # A backend that is missing or incomplete is an error of the commands that open it.
        pass


def _text(value: Any) -> str | None:
    """Return a value as YAML on one line; None where it is not set."""
    return None if value is None or value == [] else json.dumps(value, ensure_ascii=False)
