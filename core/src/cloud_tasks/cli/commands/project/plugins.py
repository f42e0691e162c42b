"""``cloud-tasks plugins``: list the installed plugins, show one, or create a new one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, json_option
from cloud_tasks.cli.options.listing import echo_table
from cloud_tasks.cli.output import echo
from cloud_tasks.registry import BACKEND_KINDS, Plugin
from cloud_tasks.tables import Column

__all__ = ["plugins"]

KINDS = ("queue", "compute", "pricing", "event-sink", "task-source")
PROVIDER = "provider"
"""Kinds that a provider needs at least: compute and pricing."""


@click.group(
    "plugins",
    invoke_without_command=True,
    epilog=examples(
        "cloud-tasks plugins", "cloud-tasks plugins show gcp", "cloud-tasks plugins new depot --kind provider"
    ),
)
@json_option
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> None:
    """List, show or create plugins."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_plugins, as_json=as_json)
    elif as_json:
        raise click.UsageError(f'--json belongs after the subcommand: "plugins {ctx.invoked_subcommand} --json"')


@plugins.command("list", epilog=examples("cloud-tasks plugins list --json"))
@json_option
@pass_app
def list_plugins(app: AppContext, as_json: bool) -> None:
    """List the installed plugins with version, distribution and features; broken ones with the cause."""
    found = app.registry.plugins()
    app.warn_of_plugins()
    if as_json:
        echo(json.dumps([{**_identity(plugin), "provides": _provides(plugin)} for plugin in found], indent=2))
        return
    echo_table(found, _COLUMNS)


@plugins.command("show", epilog=examples("cloud-tasks plugins show local", "cloud-tasks plugins show jsonl --json"))
@click.argument("name")
@json_option
@pass_app
def show_plugin(app: AppContext, name: str, as_json: bool) -> None:
    """Show a plugin's backends with their traits and settings.

    NAME is a plugin, or a queue, task source or other backend that a plugin provides.
    """
    from cloud_tasks.cli.commands.project._plugin_facts import backend_facts, find_plugin, render_plugin

    plugin = find_plugin(app.registry.plugins(), name)
    facts = {**_identity(plugin), "backends": [backend_facts(kind, item) for kind, item in plugin.registered]}
    echo(json.dumps(facts, indent=2) if as_json else render_plugin(facts))


@plugins.command(
    "new",
    epilog=examples(
        "cloud-tasks plugins new depot --kind provider",
        "cloud-tasks plugins new depot --kind provider --kind queue",
        "cloud-tasks plugins new redis --kind queue --directory cloud-tasks-redis",
    ),
)
@click.argument("name")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice((*KINDS, PROVIDER)),
    multiple=True,
    required=True,
    help='Kind of backend that the plugin provides; may be repeated. "provider": compute, with instance side and '
    "checks, and pricing.",
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Folder to create it in (default: cloud-tasks-NAME). A skeleton that is there gets the new kinds.",
)
@pass_app
def new_plugin(app: AppContext, name: str, kinds: tuple[str, ...], directory: Path | None) -> None:
    """Create a plugin skeleton: a distribution whose tests show what is left to implement.

    NAME is the name that users will configure, for example in "queue: NAME".
    """
    from cloud_tasks.cli.scaffold.plugin_skeleton import write_skeleton

    folder = directory if directory is not None else Path(f"cloud-tasks-{name}")
    chosen = {kind.replace("-", "_") for kind in kinds if kind != PROVIDER}
    chosen |= {"compute", "pricing"} if PROVIDER in kinds else set()
    written = write_skeleton(name, chosen, folder, taken=_taken_names(app))
    for file in written.files:
        echo(f"Wrote {folder / file}")
    if written.hooks_file is not None:
        echo(f"\nNext: add this to {folder / written.hooks_file}:\n\n{written.hooks}", err=True)
    else:
        echo(f"\nNext: cd {folder} && pip install -e '.[test]' && pytest", err=True)


def _taken_names(app: AppContext) -> dict[str, str]:
    """Return the names of installed plugins and of their backends, each with its distribution."""
    found = app.registry.plugins()
    backends = {item.name: plugin.distribution for plugin in found for _, item in plugin.registered}
    return backends | {plugin.name: plugin.distribution for plugin in found}


def _identity(plugin: Plugin) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "problem": plugin.problem or None,
    }


def _features(plugin: Plugin) -> str:
    """Return what a plugin provides as text, or why it is broken."""
    if plugin.problem:
        return f"BROKEN: {plugin.problem}"
    provided = _provides(plugin).items()
    return "; ".join(f"{kind.replace('_', ' ')}: {', '.join(names)}" for kind, names in provided) or "nothing"


_COLUMNS: tuple[Column[Plugin], ...] = (
    Column(name="name", title="Plugin", value=lambda plugin: plugin.name),
    Column(name="distribution", title="Distribution", value=lambda plugin: plugin.distribution),
    Column(name="version", title="Version", value=lambda plugin: plugin.version),
    Column(name="provides", title="Provides", value=_features),
)


def _provides(plugin: Plugin) -> dict[str, list[str]]:
    return {
        kind: names
        for kind in BACKEND_KINDS
        if (names := [item.name for registered_kind, item in plugin.registered if registered_kind == kind])
    }
