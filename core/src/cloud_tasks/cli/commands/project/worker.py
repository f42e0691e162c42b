"""``cloud-tasks worker``: a worker for tasks that are shell commands; its options are the worker's own."""

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
    """Work on tasks that a shell command does: --command 'program {input}'; see `cloud-tasks worker --help`."""
    run_command_worker(list(arguments))
