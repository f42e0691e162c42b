"""``cloud-tasks logs``: show the history of one task."""

from __future__ import annotations

import difflib
import itertools
import json
from pathlib import Path
from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, json_option, verbose_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.database import database_of, read_database
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.errors import InputError
from cloud_tasks.registry import Registry
from cloud_tasks.report import render_task_log, task_log_dict
from cloud_tasks.store import iterate_attempts, iterate_events, iterate_tasks

__all__ = ["logs"]

_COMPARED = 10_000
"""Maximum number of task ids compared with an unknown one."""


def logs(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "logs",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks logs task-00017 --config config.yml",
            "cloud-tasks logs task-00017 --db-file sums.db --json",
        ),
    )
    @click.argument("task_id", metavar="TASK")
    @json_option
    @verbose_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, task_id: str, **values: Any) -> None:
        """Show a task's attempts with their results and output, and its events."""
        app.start_logging(verbosity=values["verbose"])
        database = database_of(load_from_options(app.registry, values))
        with read_database(database) as store:
            found = store.task(task_id)
            if found is None:
                raise InputError(
                    f'the job has no task "{task_id}"', where=str(database), hint=_suggestion(database, task_id)
                )
            task, status = found
            attempts = tuple(iterate_attempts(database, task_id=task_id))
            events = tuple(iterate_events(database, task_id=task_id))
        if values["as_json"]:
            echo(json.dumps(task_log_dict(task, status, attempts, events), indent=2))
        else:
            echo(render_task_log(task, status, attempts, events))

    return command


def _suggestion(database: Path, task_id: str) -> str:
    names = [record.task_id for record in itertools.islice(iterate_tasks(database), _COMPARED)]
    close = difflib.get_close_matches(task_id, names, n=1)
    return f'did you mean "{close[0]}"?' if close else "list the tasks with `cloud-tasks export tasks`"
