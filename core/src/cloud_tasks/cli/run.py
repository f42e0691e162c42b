"""``cloud-tasks run``: the whole job in one command."""

from __future__ import annotations

import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import click
import structlog

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.database import database_of, read_database
from cloud_tasks.cli.options import configuration_options, load_from_options
from cloud_tasks.config import JobConfig
from cloud_tasks.controller import Controller, Outcome, Progress
from cloud_tasks.controller.job import Job, JobResult, RunRequest
from cloud_tasks.errors import InputError
from cloud_tasks.model import FINAL_STATUSES, Money, TaskStatus
from cloud_tasks.registry import Registry
from cloud_tasks.report import (
    dump_tasks,
    pace,
    render_final_report,
    render_instance_table,
    render_job_configuration,
    render_selected_offer,
    render_summary,
)
from cloud_tasks.selection import Ranking

__all__ = ["run"]

log = structlog.get_logger()

_EXAMPLES = """
\b
Examples:
  cloud-tasks run --config config.yml --task-file tasks.json
  cloud-tasks run --config config.yml --continue
  cloud-tasks run --config config.yml --retry-failed --where timed_out,dead
  cloud-tasks run --config config.yml --task-file tasks.json --dry-run
"""


def run(registry: Registry) -> click.Command:
    """Make the command; its options are those of core and of the installed plugins."""

    @click.command("run", epilog=_EXAMPLES)
    @click.option(
        "--task-file", metavar="FILE", help="Tasks: a JSON, JSON Lines or YAML file or URL, or module:function."
    )
    @click.option("--start-task", type=click.IntRange(min=1), default=1, help="The first task to take; 1 is the first.")
    @click.option("--limit", type=click.IntRange(min=1), help="How many tasks to take at most.")
    @click.option("--dry-run", is_flag=True, help="Check everything and say what would be done; change nothing.")
    @click.option("--continue", "resume", is_flag=True, help="Go on with the job in the database.")
    @click.option("--retry-failed", is_flag=True, help="Begin a new pass over the failed tasks in the database.")
    @click.option(
        "--where",
        metavar="STATUS[,STATUS]",
        help="Retry only tasks of these statuses: failed, timed_out, exited, dead.",
    )
    @click.option(
        "--force", "-f", is_flag=True, help="Replace an earlier run's database, queues and instances unasked."
    )
    @click.option(
        "--output-file", type=click.Path(path_type=Path, dir_okay=False), help="Copy all events to this file."
    )
    @click.option(
        "--on-interrupt",
        type=click.Choice(["ask", "terminate", "leave"]),
        default="ask",
        help="What Ctrl-C does with the instances; without a terminal, ask means terminate.",
    )
    @click.option(
        "--dump-tasks/--no-dump-tasks",
        default=None,
        help="After an interrupt, write the tasks of each status to {job_id}_{status}.json; asked when not given.",
    )
    @click.option("--verbose", "-v", count=True, help="More log lines.")
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> int:
        """Run a whole job: load, launch, watch, collect, clean up, report."""
        app.start_logging(verbosity=values["verbose"])
        return _run(app, values)

    return command


def _run(app: AppContext, values: dict[str, Any]) -> int:
    config = load_from_options(app.registry, values)
    for line in config.override_lines():
        log.warning(line)
    retry = _statuses_to_retry(values)
    request = RunRequest(
        task_file=values["task_file"],
        db_file=database_of(config),
        start_task=values["start_task"] - 1,
        limit=values["limit"],
        resume=values["resume"] or bool(retry),
        retry=retry,
        output_file=values["output_file"],
    )
    with Job(app.registry, config, request) as job:
        _describe(config, job)
        if request.resume:
            remaining = _describe_resumed(request, job)
        else:
            remaining = job.load()
            log.info(f"The input holds {remaining} tasks")
        ranking = job.choose()
        _describe_choice(ranking)
        obstacles = () if request.resume else job.obstacles()
        if values["dry_run"]:
            for obstacle in obstacles:
                log.info(f"Would replace {obstacle}")
            log.info(f"Dry run: {remaining} tasks would be run; nothing was changed")
            return 0
        if obstacles and not values["force"]:
            _confirm(obstacles)
        result = job.run(
            ranking,
            on_progress=_ProgressLog(config),
            on_started=lambda controller, loop: _Interrupts(controller, loop, values["on_interrupt"]).connect(),
        )
    code = _report(result, request)
    if result.outcome in (Outcome.STOPPED, Outcome.LEFT) and _wants_dump(values["dump_tasks"]):
        with read_database(request.db_file) as store:
            for file in dump_tasks(store, Path.cwd()):
                click.echo(f"Wrote {file}", err=True)
    return code


def _describe(config: JobConfig, job: Job) -> None:
    source = f"Loading configuration from {config.file}" if config.file else "Running without a configuration file"
    log.info(source)
    log.info(f"Starting pool management for job: {job.job_id}")
    run = config.run
    text = render_job_configuration(
        provider=(config.provider or config.compute).upper(),
        region=run.region,
        zone=run.zone,
        job_id=job.job_id,
        queue_name=job.queue_name,
        constraints=config.constraints(),
        limits=config.limits(),
        scaling_check_interval=run.scaling_check_interval,
        instance_termination_delay=run.instance_termination_delay,
        max_runtime=run.max_runtime,
        max_parallel_instance_creations=run.max_parallel_instance_creations,
        image=run.image,
        startup_script=config.require_startup_script(),
        spot_fallback=run.spot_fallback,
    )
    for line in text.splitlines():
        log.info(line)


def _describe_resumed(request: RunRequest, job: Job) -> int:
    """Tell how the job stands that is gone on with; returns how many tasks would be run."""
    with read_database(request.db_file, job_id=job.job_id) as store:
        summary = store.summary()
    log.info(f"Continuing: {summary.finished_tasks} of {summary.total} tasks are in a final state")
    again = sum(summary.counts[status] for status in request.retry)
    if request.retry:
        names = ", ".join(sorted(status.value for status in request.retry))
        log.info(f"{again} of these have failed and will be tried again ({names})")
        if not again and summary.finished:
            raise InputError(
                f"no task of this job is {names.replace(', ', ' or ')}",
                hint="see how it stands with `cloud-tasks status`",
            )
    return summary.remaining + again


_RETRIABLE = FINAL_STATUSES - {TaskStatus.COMPLETED}


def _statuses_to_retry(values: dict[str, Any]) -> frozenset[TaskStatus]:
    """What ``--retry-failed`` and ``--where`` mean; nothing without the first."""
    if not values["retry_failed"]:
        if values["where"] is not None:
            raise InputError("--where says what --retry-failed is to retry", hint="give --retry-failed too")
        return frozenset()
    if values["task_file"] is not None:
        raise InputError("--retry-failed takes its tasks from the database", hint="leave --task-file out")
    if values["where"] is None:
        return _RETRIABLE
    known = {status.value: status for status in _RETRIABLE}
    names = [name.strip().replace("-", "_").lower() for name in values["where"].split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise InputError(
                f'"{name}" is no status that can be retried',
                where="--where",
                hint=f"choose from {', '.join(sorted(known))}",
            )
    if not names:
        raise InputError("no status is named", where="--where", hint=f"choose from {', '.join(sorted(known))}")
    return frozenset(known[name] for name in names)


def _describe_choice(ranking: Ranking) -> None:
    for warning in ranking.warnings:
        log.warning(warning)
    for line in render_selected_offer(ranking, now=datetime.now(UTC)).splitlines():
        log.info(line)


def _confirm(obstacles: tuple[str, ...]) -> None:
    """Ask before anything is destroyed. Raises `InputError` where nobody can answer, or the answer is no."""
    what = "; ".join(obstacles)
    if not sys.stdin.isatty():
        raise InputError(
            f"this would replace {what}", hint="--force does it unasked; --continue goes on with the job instead"
        )
    click.echo(f"This will replace {what}.", err=True)
    answer = click.prompt("Type YES to go on", err=True, default="", show_default=False)
    if answer != "YES":
        raise InputError("not confirmed, nothing was changed", hint="--continue goes on with the job instead")


def _wants_dump(choice: bool | None) -> bool:
    if choice is None and sys.stdin.isatty():
        return click.confirm("Write the tasks of each status to a task file?", default=False, err=True)
    return bool(choice)


class _ProgressLog:
    """Tells at each look what changed: the queue, the instances, the tasks."""

    def __init__(self, config: JobConfig) -> None:
        self._config = config
        self._told = ""

    def __call__(self, progress: Progress) -> None:
        log.info("Checking if scaling is needed...")
        depth = progress.depth
        if depth is not None and depth.visible is not None:
            held = depth.visible + (depth.in_flight or 0)
            log.info(f"Current queue depth: {held}" + ("" if depth.exact else " (estimate)"))
        table = render_instance_table(progress.instances)
        if table != self._told:
            self._told = table
            for line in table.splitlines():
                log.info(line)
        rate = pace(progress.summary, progress.now)
        price = sum((i.price_per_hour for i in progress.instances if i.ended_at is None), Money.zero())
        text = render_summary(progress.summary, pace=rate, cost=progress.cost, price_per_hour=price)
        click.echo(text, err=True)


class _Interrupts:
    """Ctrl-C and SIGTERM while the job runs."""

    def __init__(self, controller: Controller, loop: Any, policy: str) -> None:
        self._controller = controller
        self._loop = loop
        self._policy = policy
        self._asking = False

    def connect(self) -> None:
        signal.signal(signal.SIGINT, self._received)
        signal.signal(signal.SIGTERM, self._received)
        signal.signal(signal.SIGHUP, self._received)

    def _received(self, number: int, _: FrameType | None) -> None:
        self._loop.post(lambda: self._interrupted(number))

    def _interrupted(self, number: int) -> None:
        ask = self._policy == "ask" and number == signal.SIGINT and sys.stdin.isatty()
        if not ask or self._asking:
            self._answer("l" if self._policy == "leave" and not self._asking else "t")
            return
        self._asking = True
        question = "\nInterrupted: [T]erminate all instances, [L]eave them running, or [C]arry on? "

        def read() -> str:
            click.echo(question, nl=False, err=True)
            return sys.stdin.readline().strip().lower()[:1]

        self._loop.call(read, self._answer, lambda _: self._answer("t"))

    def _answer(self, answer: str) -> None:
        self._asking = False
        if answer == "t":
            log.info("Interrupted: terminating all instances; `run --continue` goes on later")
            self._controller.stop()
        elif answer == "l":
            log.info("Interrupted: leaving the instances running; `run --continue` comes back to them")
            self._controller.stop(leave=True)
        else:
            log.info("Carrying on")


def _report(result: JobResult, request: RunRequest) -> int:
    """Print how it ended; returns the exit code."""
    for name, count in result.lost_copies.items():
        log.warning(f'The event sink "{name}" lost {count} events; the database has them')
    if result.outcome is Outcome.COMPLETE:
        click.echo(render_final_report(result.statistics, result.elapsed, finished_before=result.finished_before))
        return 0 if result.all_gone else 1
    if result.console_log:
        click.echo("Console log of an instance:\n" + result.console_log, err=True)
    if result.outcome is Outcome.ABORTED:
        click.echo(
            f"Error: the job was stopped: {result.reason}; `cloud-tasks run --continue` goes on with it", err=True
        )
    click.echo(render_summary(result.statistics.summary, cost=result.statistics.cost), err=True)
    return 1 if result.outcome is Outcome.ABORTED else 130
