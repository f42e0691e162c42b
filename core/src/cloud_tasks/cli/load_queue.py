"""``cloud-tasks load-queue``: put tasks into a job's database and queue, for workers that are started by hand.

Invariants, each with a test:

1. The whole input is checked before anything is deleted or created.
2. With ``--continue`` only what was not sent yet is sent, or what is certainly lost.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import structlog

import cloud_tasks
from cloud_tasks.builtin import open_task_source
from cloud_tasks.cli.common import confirm_by_typing, examples, json_option, verbose_option
from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.database import database_of, read_database
from cloud_tasks.cli.options import configuration_options, load_from_options
from cloud_tasks.cli.queues import chosen_queues, depth_of, queue_name_of
from cloud_tasks.config import JobConfig
from cloud_tasks.controller.feed import MOST_PARALLEL_SENDS, Feeder
from cloud_tasks.controller.loop import ThreadedLoop
from cloud_tasks.errors import CloudTasksError, InputError, StoreError
from cloud_tasks.model import TaskStatus
from cloud_tasks.plugin import Queue
from cloud_tasks.registry import Registry
from cloud_tasks.report import render_summary, status_dict
from cloud_tasks.store import JobRecord, JobState, Store

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
    @click.option("--force", "-f", is_flag=True, help="Replace an earlier database and queues unasked.")
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
        if not config.run.job_id:
            raise InputError("no job was named", hint="give --job-id or --config")
        if values["resume"]:
            if values["task_file"] is not None:
                raise InputError("--continue takes its tasks from the database", hint="leave --task-file out")
            _continue(config, values)
        else:
            _load(app.registry, config, values)

    return command


def _load(registry: Registry, config: JobConfig, values: Mapping[str, Any]) -> None:
    database = database_of(config)
    with _filled(registry, config, database, values) as store:
        total = store.summary().total
        log.info(f"The input holds {total} tasks")
        obstacles = _obstacles(config, database)
        if values["dry_run"]:
            for obstacle in obstacles:
                log.info(f"Would replace {obstacle}")
            log.info(f"Dry run: {total} tasks would be loaded; nothing was changed")
            return
        if obstacles and not values["force"]:
            confirm_by_typing(
                f"replace {'; '.join(obstacles)}",
                "YES",
                hint="--force does it unasked; --continue goes on with the job instead",
            )
        store.publish(database)
        store.set_state(JobState.RUNNING, datetime.now(UTC))
        with _opened(config, afresh=True) as (tasks, _):
            _send(store, tasks, config)
        queue = queue_name_of(config)
        facts = {"job_id": config.run.job_id, "queue": queue, "database": str(database), "tasks": total}
        told = f"Loaded {total} tasks into the queue {queue}; database {database}"
        click.echo(json.dumps(facts, indent=2) if values["as_json"] else told)


def _continue(config: JobConfig, values: Mapping[str, Any]) -> None:
    database = database_of(config)
    if values["dry_run"]:
        with read_database(database, job_id=config.run.job_id) as store:
            log.info(f"Dry run: {store.summary().counts[TaskStatus.PENDING]} tasks would be sent; nothing was changed")
        return
    if not database.exists():
        raise InputError("there is no such job database", where=str(database), hint="load a task file first")
    with Store.open(database, job_id=config.run.job_id) as store, _opened(config, afresh=False) as (tasks, existed):
        if not existed or _are_gone(store, config):
            store.reset_for_requeue()
        _send(store, tasks, config)
        summary = store.summary()
        click.echo(json.dumps(status_dict(summary), indent=2) if values["as_json"] else render_summary(summary))


def _are_gone(store: Store, config: JobConfig) -> bool:
    """Whether tasks that were sent are certainly in no queue, with no worker, and in no report still to be read."""
    if store.summary().counts[TaskStatus.RUNNING]:
        return False
    for named in chosen_queues(config):
        with named.open(config) as queue:
            depth = depth_of(queue)
        if depth is None or not depth.exact or depth.visible or depth.in_flight:
            return False
    return True


@contextlib.contextmanager
def _filled(registry: Registry, config: JobConfig, database: Path, values: Mapping[str, Any]) -> Iterator[Store]:
    """A new database beside the final one, with the whole input in it, checked."""
    spec = values["task_file"] or config.task_source
    if spec is None:
        raise InputError("no tasks were given", hint="name a task file with --task-file, or set task_source")
    folder = database.absolute().parent
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}", where="--db-file", hint="create it first")
    with (
        tempfile.TemporaryDirectory(prefix=".cloud-tasks-load-", dir=folder) as scratch,
        Store.create(Path(scratch) / "job.db", _record(config, str(spec))) as store,
        open_task_source(registry, spec, base_dir=Path.cwd(), settings_for=config.settings_for) as source,
    ):
        store.load_tasks(source, start=values["start_task"] - 1, limit=values["limit"])
        yield store


def _record(config: JobConfig, spec: str) -> JobRecord:
    return JobRecord(
        job_id=config.run.job_id or "",
        queue_name=queue_name_of(config),
        run_id=secrets.token_hex(8),
        created_at=datetime.now(UTC),
        provider=config.provider or "",
        queue=config.queue,
        compute=config.backends.get("compute", ""),
        pricing=config.backends.get("pricing", ""),
        task_source=spec,
        tool_version=cloud_tasks.__version__,
        config=config.as_dict(),
    )


def _obstacles(config: JobConfig, database: Path) -> tuple[str, ...]:
    """What a load would destroy, in words: an earlier database, messages in the queues."""
    found = [f"database {database}{_content(database)}"] if database.exists() else []
    for named in chosen_queues(config):
        with named.open(config) as queue:
            depth = depth_of(queue)
        held = 0 if depth is None else (depth.visible or 0) + (depth.in_flight or 0)
        if held:
            found.append(f"the {named.kind} queue with {held} messages")
    return tuple(found)


def _content(database: Path) -> str:
    try:
        with Store.open(database, read_only=True) as store:
            summary = store.summary()
    except StoreError as error:
        return f" ({error.message})"
    return f" with {summary.finished_tasks} of {summary.total} tasks of job {summary.job.job_id} in a final state"


@contextlib.contextmanager
def _opened(config: JobConfig, *, afresh: bool) -> Iterator[tuple[Queue, bool]]:
    """The task queue, and whether it was there; both queues are there then, and with ``afresh`` they are new."""
    tasks, events = chosen_queues(config)
    with tasks.open(config) as task_queue, events.open(config) as event_queue:
        existed = task_queue.exists()
        for queue in (task_queue, event_queue):
            if afresh:
                queue.delete()
            queue.create()
        yield task_queue, existed


def _send(store: Store, tasks: Queue, config: JobConfig) -> None:
    """Send every pending task. Raises `CloudTasksError` when the queue takes no more."""
    loop = ThreadedLoop(threads=MOST_PARALLEL_SENDS)
    problems: list[str] = []
    try:
        feeder = Feeder(
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
        raise CloudTasksError(problems[0], hint="mend it, then `cloud-tasks load-queue --continue`")
