"""What this distribution registers: a command. Nothing else of it is imported before the command is called."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_tasks.plugin import CommandDescriptor, hookimpl

__all__ = ["cloud_tasks_register_command"]


@hookimpl
def cloud_tasks_register_command() -> Sequence[CommandDescriptor]:
    return (
        CommandDescriptor(
            name="dashboard",
            summary="Show how jobs go, on a page in the browser, on this machine.",
            target="cloud_tasks_dashboard.command:dashboard",
        ),
    )
