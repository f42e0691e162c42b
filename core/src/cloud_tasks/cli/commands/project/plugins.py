"""``cloud-tasks plugins``: what is installed, what each plugin has and can be told, and the beginning of a new one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, json_option
from cloud_tasks.registry import AXES, Plugin

__all__ = ["plugins"]

KINDS = ("queue", "compute", "pricing", "event-sink", "task-source")


@click.group(
    "plugins",
    invoke_without_command=True,
    epilog=examples(
        "cloud-tasks plugins", "cloud-tasks plugins show gcp", "cloud-tasks plugins new redis --kind queue"
    ),
)
@json_option
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> None:
    """List the installed plugins, show what one has, or begin a new one."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_plugins, as_json=as_json)
    elif as_json:
        raise click.UsageError(f'write "plugins {ctx.invoked_subcommand} --json"')


@plugins.command("list", epilog=examples("cloud-tasks plugins list --json"))
@json_option
@pass_app
def list_plugins(app: AppContext, as_json: bool) -> None:
    """List the installed plugins: version, distribution, what each provides; broken ones with their cause."""
    found = app.registry.plugins()
    app.warn_of_plugins()
    if as_json:
        click.echo(json.dumps([{**_identity(plugin), "provides": _provides(plugin)} for plugin in found], indent=2))
        return
    width = max(len(plugin.name) for plugin in found)
    for plugin in found:
        provides = "; ".join(
            f"{axis.replace('_', ' ')}: {', '.join(names)}" for axis, names in _provides(plugin).items()
        )
        state = f"BROKEN: {plugin.problem}" if plugin.problem else provides or "provides nothing"
        click.echo(f"{plugin.name:<{width}}  {plugin.distribution} {plugin.version}  {state}")


@plugins.command("show", epilog=examples("cloud-tasks plugins show local", "cloud-tasks plugins show jsonl --json"))
@click.argument("name")
@json_option
@pass_app
def show_plugin(app: AppContext, name: str, as_json: bool) -> None:
    """Show all that a plugin registers: its settings with their defaults, variables and flags, and its traits.

    NAME is that of the plugin, or of a queue, task source or the like that one provides.
    """
    from cloud_tasks.cli.commands.project._plugin_facts import backend_facts, find_plugin, render_plugin

    plugin = find_plugin(app.registry.plugins(), name)
    facts = {**_identity(plugin), "backends": [backend_facts(axis, item) for axis, item in plugin.registered]}
    click.echo(json.dumps(facts, indent=2) if as_json else render_plugin(facts))


@plugins.command("new", epilog=examples("cloud-tasks plugins new redis --kind queue --directory cloud-tasks-redis"))
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What the plugin is to provide.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to write it; cloud-tasks-NAME in the current directory when not given.",
)
def new_plugin(name: str, kind: str, directory: Path | None) -> None:
    """Write a plugin to be filled in: a distribution whose tests say what is still to be written.

    NAME is what users will write, for example in "queue: NAME".
    """
    from cloud_tasks.cli.scaffold.plugin_skeleton import write_skeleton

    folder = directory if directory is not None else Path(f"cloud-tasks-{name}")
    for file in write_skeleton(name, kind.replace("-", "_"), folder):
        click.echo(f"wrote {folder / file}")
    click.echo(f"\nNow: cd {folder} && pip install -e '.[test]' && pytest", err=True)


def _identity(plugin: Plugin) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "problem": plugin.problem or None,
    }


def _provides(plugin: Plugin) -> dict[str, list[str]]:
    return {
        axis: names
        for axis in AXES
        if (names := [item.name for registered_axis, item in plugin.registered if registered_axis == axis])
    }
