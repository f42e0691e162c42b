"""Registration of the command `dashboard`, whose module is imported when it is called."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_tasks.plugin import CommandDescriptor, hookimpl

__all__ = ["cloud_tasks_register_command"]


@hookimpl
def cloud_tasks_register_command() -> Sequence[CommandDescriptor]:
    return (
        CommandDescriptor(
            name="dashboard",
            summary="Show jobs in the browser.",
            target="cloud_tasks_dashboard.command:dashboard",
        ),
    )
