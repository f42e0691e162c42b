"""``cloud-tasks worker``: run a worker for shell-command tasks, with the worker's own options."""

from __future__ import annotations

import click

from cloud_tasks.worker.shell_command import run_command_worker

__all__ = ["worker"]


@click.command(
    "worker",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def worker(arguments: tuple[str, ...]) -> None:
    """Run a worker for shell-command tasks: --command 'program {input}'; see `cloud-tasks worker --help`."""
    run_command_worker(list(arguments))
