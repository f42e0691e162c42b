"""``cloud-tasks load-queue``: load tasks into a job's database and queue, for workers started by hand.

Invariants, each with a test:

1. The whole input is validated before anything is deleted or created.
2. ``--continue`` sends only tasks that were not sent yet or are certainly missing from the queue.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import structlog

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, force_option, job_input_options, json_option, verbose_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.database import database_of, read_database
from cloud_tasks.cli.options.queues import queue_text
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.cli.ui.confirmation import confirm
from cloud_tasks.config import JobConfig
from cloud_tasks.controller import MAX_PARALLEL_SENDS, JobInput, JobResources, JobSetup, TaskEnqueuer, ThreadedLoop
from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.model import TaskStatus
from cloud_tasks.plugin import Queue
from cloud_tasks.quantities import counted
from cloud_tasks.registry import Registry
from cloud_tasks.report import render_summary, status_dict
from cloud_tasks.store import Store

__all__ = ["load_queue"]

log = structlog.get_logger()


def load_queue(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "load-queue",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks load-queue --config config.yml --task-file tasks.json",
            "cloud-tasks load-queue --config config.yml --task-file tasks.json --start-task 1001 --limit 1000",
            "cloud-tasks load-queue --config config.yml --continue",
        ),
    )
    @job_input_options
    @click.option(
        "--continue",
        "resume",
        is_flag=True,
        help="Send the tasks that an earlier load did not; show the status.",
    )
    @force_option
    @json_option
    @verbose_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Load tasks into a job's database and queue; launch no instances.

        For workers started by hand, whose events `cloud-tasks monitor` collects.
        """
        app.start_logging(verbosity=values["verbose"])
        config = load_from_options(app.registry, values)
        if values["resume"] and values["task_file"] is not None:
            raise InputError("--continue takes its tasks from the database", hint="omit --task-file")
        given = JobInput(
            db_file=database_of(config),
            task_file=values["task_file"],
            start_task=values["start_task"] - 1,
            limit=values["limit"],
            allow_empty=values["allow_empty"],
        )
        resume = values["resume"]
        with JobSetup(app.registry, config, given, starts_instances=False, resume=resume) as setup:
            (_continue if resume else _load)(setup, config, given.db_file, values)

    return command


def _load(setup: JobSetup, config: JobConfig, database: Path, values: Mapping[str, Any]) -> None:
    total = setup.load()
    log.info(f"{counted(total, 'task')} found")
    obstacles = setup.obstacles()
    if values["dry_run"]:
        for obstacle in obstacles:
            log.info(f"Would overwrite {obstacle}")
        log.info(f"Dry run: {counted(total, 'task')} would be loaded; nothing was changed")
        if values["as_json"]:
            echo(json.dumps({**_facts(setup, database, total), "dry_run": True, "obstacles": obstacles}, indent=2))
        return
    if obstacles:
        confirm(f"overwrite {'; '.join(obstacles)}", force=values["force"], instead="--continue to resume the job")
    resources = setup.create()
    _send(resources.store, resources.tasks, config)
    facts = _facts(setup, database, total)
    queue = queue_text(setup.queue_name, setup.event_queue_name)
    text = f"Loaded {counted(total, 'task')} into queue {queue}; database {database}"
    echo(json.dumps(facts, indent=2) if values["as_json"] else text)


def _facts(setup: JobSetup, database: Path, total: int) -> dict[str, Any]:
    return {
        "job_id": setup.job_id,
        "queue": setup.queue_name,
        "event_queue": setup.event_queue_name,
        "database": str(database),
        "tasks": total,
    }


def _continue(setup: JobSetup, config: JobConfig, database: Path, values: Mapping[str, Any]) -> None:
    if values["dry_run"]:
        with read_database(database, job_id=setup.job_id) as store:
            pending = store.summary().counts[TaskStatus.PENDING]
            log.info(f"Dry run: {counted(pending, 'task')} would be sent; nothing was changed")
        if values["as_json"]:
            echo(json.dumps({**_facts(setup, database, pending), "dry_run": True}, indent=2))
        return
    setup.check_resumable()
    resources = setup.resume()
    store = resources.store
    log.info(f"Queue: {queue_text(setup.queue_name, setup.event_queue_name)}")
    if _are_missing(resources):
        store.reset_for_requeue()
    _send(store, resources.tasks, config)
    summary = store.summary()
    echo(json.dumps(status_dict(summary), indent=2) if values["as_json"] else render_summary(summary))


def _are_missing(resources: JobResources) -> bool:
    """Return whether sent tasks are certainly in no queue, with no worker, and in no event still to be collected."""
    if resources.store.summary().counts[TaskStatus.RUNNING]:
        return False
    depths = [queue.depth() for queue in (resources.tasks, resources.events)]
    return all(depth.exact and not depth.visible and not depth.in_flight for depth in depths)


def _send(store: Store, tasks: Queue, config: JobConfig) -> None:
    """Send all pending tasks. Raises `CloudTasksError` where the queue accepts no more."""
    loop = ThreadedLoop(threads=MAX_PARALLEL_SENDS)
    problems: list[str] = []
    try:
        enqueuer = TaskEnqueuer(
            loop,
            store,
            tasks,
            on_broken=problems.append,
            operations=config.run.max_concurrent_queue_operations,
            send_batch=config.registry.queue(config.queue).traits.send_batch,
        )
        enqueuer.start()
        loop.run(lambda: enqueuer.done or bool(problems))
    finally:
        loop.close()
    if problems:
        raise CloudTasksError(problems[0], hint="fix it, then resume with `cloud-tasks load-queue --continue`")
