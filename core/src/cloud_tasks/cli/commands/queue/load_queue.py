"""``cloud-tasks load-queue``: put tasks into a job's database and queue, for workers that are started by hand.

Invariants, each with a test:

1. The whole input is checked before anything is deleted or created.
2. With ``--continue`` only what was not sent yet is sent, or what is certainly lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import structlog

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, force_option, json_option, verbose_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.database import database_of, read_database
from cloud_tasks.cli.ui.confirmation import confirm
from cloud_tasks.config import JobConfig
from cloud_tasks.controller.event_loop import ThreadedLoop
from cloud_tasks.controller.messaging.enqueuer import MAX_PARALLEL_SENDS, TaskEnqueuer
from cloud_tasks.controller.setup.job_setup import JobInput, JobResources, JobSetup
from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.model import TaskStatus
from cloud_tasks.plugin import Queue
from cloud_tasks.registry import Registry
from cloud_tasks.report import render_summary, status_dict
from cloud_tasks.store import Store

__all__ = ["load_queue"]

log = structlog.get_logger()


def load_queue(registry: Registry) -> click.Command:
    """Make the command; its options are those of core and of the installed plugins."""

    @click.command(
        "load-queue",
        epilog=examples(
            "cloud-tasks load-queue --config config.yml --task-file tasks.json",
            "cloud-tasks load-queue --config config.yml --task-file tasks.json --start-task 1001 --limit 1000",
            "cloud-tasks load-queue --config config.yml --continue",
        ),
    )
    @click.option(
        "--task-file", metavar="FILE", help="Tasks: a JSON, JSON Lines or YAML file or URL, or module:function."
    )
    @click.option("--start-task", type=click.IntRange(min=1), default=1, help="The first task to take; 1 is the first.")
    @click.option("--limit", type=click.IntRange(min=1), help="How many tasks to take at most.")
    @click.option("--dry-run", is_flag=True, help="Check everything and say what would be done; change nothing.")
    @click.option("--continue", "resume", is_flag=True, help="Send what an earlier load did not, and show the status.")
    @force_option
    @json_option
    @verbose_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Load tasks into the database and the queue of a job; start no instance.

        Workers started by hand then take the tasks; `cloud-tasks monitor` collects what they report.
        """
        app.start_logging(verbosity=values["verbose"])
        config = load_from_options(app.registry, values)
        if values["resume"] and values["task_file"] is not None:
            raise InputError("--continue takes its tasks from the database", hint="leave --task-file out")
        given = JobInput(
            db_file=database_of(config),
            task_file=values["task_file"],
            start_task=values["start_task"] - 1,
            limit=values["limit"],
        )
        with JobSetup(app.registry, config, given, starts_instances=False) as setup:
            (_continue if values["resume"] else _load)(setup, config, given.db_file, values)

    return command


def _load(setup: JobSetup, config: JobConfig, database: Path, values: Mapping[str, Any]) -> None:
    total = setup.load()
    log.info(f"{total} tasks found")
    obstacles = setup.obstacles()
    if values["dry_run"]:
        for obstacle in obstacles:
            log.info(f"Would overwrite {obstacle}")
        log.info(f"Dry run: {total} tasks would be loaded; nothing was changed")
        return
    if obstacles:
        confirm(f"overwrite {'; '.join(obstacles)}", force=values["force"], instead="--continue to resume the job")
    resources = setup.create()
    _send(resources.store, resources.tasks, config)
    facts = {"job_id": setup.job_id, "queue": setup.queue_name, "database": str(database), "tasks": total}
    text = f"Loaded {total} tasks into the queue {setup.queue_name}; database {database}"
    click.echo(json.dumps(facts, indent=2) if values["as_json"] else text)


def _continue(setup: JobSetup, config: JobConfig, database: Path, values: Mapping[str, Any]) -> None:
    if values["dry_run"]:
        with read_database(database, job_id=setup.job_id) as store:
            log.info(f"Dry run: {store.summary().counts[TaskStatus.PENDING]} tasks would be sent; nothing was changed")
        return
    resources = setup.resume()
    store = resources.store
    if _are_gone(resources):
        store.reset_for_requeue()
    _send(store, resources.tasks, config)
    summary = store.summary()
    click.echo(json.dumps(status_dict(summary), indent=2) if values["as_json"] else render_summary(summary))


def _are_gone(resources: JobResources) -> bool:
    """Whether tasks that were sent are certainly in no queue, with no worker, and in no report still to be read."""
    if resources.store.summary().counts[TaskStatus.RUNNING]:
        return False
    depths = [queue.depth() for queue in (resources.tasks, resources.events)]
    return all(depth.exact and not depth.visible and not depth.in_flight for depth in depths)


def _send(store: Store, tasks: Queue, config: JobConfig) -> None:
    """Send every pending task. Raises `CloudTasksError` when the queue takes no more."""
    loop = ThreadedLoop(threads=MAX_PARALLEL_SENDS)
    problems: list[str] = []
    try:
        feeder = TaskEnqueuer(
            loop,
            store,
            tasks,
            on_broken=problems.append,
            operations=config.run.max_concurrent_queue_operations,
            send_batch=config.registry.queue(config.queue).traits.send_batch,
        )
        feeder.start()
        loop.run(lambda: feeder.done or bool(problems))
    finally:
        loop.close()
    if problems:
        raise CloudTasksError(problems[0], hint="fix it, then resume with `cloud-tasks load-queue --continue`")
