"""``cloud-tasks plugins``: what is installed, and what each plugin provides."""

from __future__ import annotations

import json

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.registry import AXES, Plugin

__all__ = ["plugins"]


def _provides(plugin: Plugin) -> dict[str, list[str]]:
    return {
        axis: names
        for axis in AXES
        if (names := [item.name for registered_axis, item in plugin.registered if registered_axis == axis])
    }


@click.group("plugins", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@pass_app
def plugins(app: AppContext, as_json: bool) -> None:
    """List the installed plugins: version, distribution, what each provides; broken ones with their cause."""
    found = app.registry.plugins()
    app.warn_of_plugins()
    if as_json:
        rows = [
            {
                "name": plugin.name,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "provides": _provides(plugin),
                "problem": plugin.problem or None,
            }
            for plugin in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    width = max(len(plugin.name) for plugin in found)
    for plugin in found:
        provides = "; ".join(
            f"{axis.replace('_', ' ')}: {', '.join(names)}" for axis, names in _provides(plugin).items()
        )
        state = f"BROKEN: {plugin.problem}" if plugin.problem else provides or "provides nothing"
        click.echo(f"{plugin.name:<{width}}  {plugin.distribution} {plugin.version}  {state}")
