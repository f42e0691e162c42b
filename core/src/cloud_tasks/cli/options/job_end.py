"""The end of a job in a command: its exit code, and the next commands, with the options that the user gave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from click.core import ParameterSource

from cloud_tasks import exit_codes
from cloud_tasks.cli.options.config_options import (
    is_configuration_option,
    is_database_option,
    is_job_option,
    is_public_option,
)
from cloud_tasks.config import JobConfig
from cloud_tasks.controller import NextCommands
from cloud_tasks.escape import printed_word
from cloud_tasks.store import JobStatistics, JobSummary

__all__ = ["after_failures", "code_of_job", "command_line", "next_commands"]


def code_of_job(summary: JobSummary, config: JobConfig) -> int:
    """Return the exit code for a job whose tasks are all finished."""
    accepted = exit_codes.AcceptedFailures.parse(config.run.accept_failures)
    return exit_codes.code_of_finished(summary.failed, summary.total, accepted)


def after_failures(statistics: JobStatistics, config: JobConfig) -> tuple[str, ...]:
    """Return the lines that name the next commands after failed tasks; none if no task failed."""
    task_id = statistics.failed_task
    if task_id is None:
        return ()
    task = (task_id,) if not task_id.startswith("-") else ("--", task_id)
    return (
        f"See one: {command_line('logs', config, *task, only_job=True)}",
        f"Retry them: {command_line('run', config, options=('--retry-failed',))}",
    )


def next_commands(config: JobConfig) -> NextCommands:
    """Return the commands that continue or stop the job of this command."""
    return NextCommands(
        resume=lambda database: command_line("run", config, options=("--continue",), database=database),
        stop=command_line("stop", config),
    )


def command_line(
    name: str,
    config: JobConfig,
    *arguments: str,
    options: tuple[str, ...] = (),
    only_job: bool = False,
    database: Path | None = None,
) -> str:
    """Return a command of this program for the same job, on one line.

    Args:
        database: Job database to use instead of the one of this command.
        only_job: Repeat only the options that identify the job, instead of the whole configuration.
    """
    given = list(_given_options(only_job=only_job, with_private=not config.exposed, with_database=database is None))
    if database is not None:
        given += ["--db-file", str(database)]
    words = ("cloud-tasks", name, *options, *given, *arguments)
    return " ".join(map(printed_word, words))


def _given_options(*, only_job: bool, with_private: bool, with_database: bool) -> Iterator[str]:
    """Yield the words of the configuration options on this process's command line, without secrets."""
    context = click.get_current_context(silent=True)
    if context is None:
        return
    is_wanted = is_job_option if only_job else is_configuration_option
    for parameter in context.command.params:
        name = parameter.name or ""
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE or not is_wanted(name):
            continue
        if is_database_option(name) and not with_database:
            continue
        if not with_private and not is_public_option(name):
            # One of them is a secret; the user sets it by its variable, as the warning about it says.
            continue
        value = context.params[name]
        if isinstance(value, bool):
            yield (parameter.opts if value else parameter.secondary_opts)[0]
        else:
            for word in value if isinstance(value, tuple | list) else (value,):
                yield from (parameter.opts[0], str(word))
