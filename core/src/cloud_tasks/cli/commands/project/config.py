"""``cloud-tasks config``: what the merged configuration is, and what a configuration file may hold."""

from __future__ import annotations

import json
from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, json_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.config import json_schema
from cloud_tasks.registry import Registry

__all__ = ["config"]


def config(registry: Registry) -> click.Group:
    """Make the group; the options of ``show`` are those of core and of the installed plugins."""

    @click.group("config")
    def group() -> None:
        """Show the merged configuration, or the JSON Schema of the configuration file."""

    @group.command(
        "show",
        epilog=examples(
            "cloud-tasks config show --config config.yml",
            "cloud-tasks config show --config config.yml --max-cpu 8 --json",
        ),
    )
    @json_option
    @configuration_options(registry)
    @pass_app
    def show(app: AppContext, /, **values: Any) -> None:
        """Show every value of the merged configuration and where it was written; secrets are masked."""
        app.warn_of_plugins()
        loaded = load_from_options(app.registry, values)
        for line in loaded.override_lines():
            click.echo(f"Warning: {line}", err=True)
        if values["as_json"]:
            click.echo(json.dumps(loaded.as_dict(with_origins=True), indent=2))
            return
        rows = [(entry.key, _text(entry.value), str(entry.origin)) for entry in loaded.entries()]
        keys, texts = (max(len(row[column]) for row in rows) for column in (0, 1))
        for key, text, origin in rows:
            click.echo(f"{key:<{keys}}  {text:<{min(texts, 40)}}  {origin}")

    @group.command("schema", epilog=examples("cloud-tasks config schema > cloud-tasks.schema.json"))
    @pass_app
    def schema(app: AppContext, /) -> None:
        """Print the JSON Schema of the configuration file, with the sections of the installed plugins."""
        app.warn_of_plugins()
        click.echo(json.dumps(json_schema(app.registry), indent=2))

    return group


def _text(value: Any) -> str:
    """A value on one line, as YAML reads it."""
    return "-" if value is None or value == [] else json.dumps(value, ensure_ascii=False)
