"""``cloud-tasks run``: run a job from start to end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import click
import structlog

from cloud_tasks import exit_codes
from cloud_tasks.cli.commands.job._trait_warnings import trait_warnings
from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, force_option, job_input_options, output_option, verbose_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.database import database_of, read_database
from cloud_tasks.cli.options.job_end import after_failures, code_of_job, next_commands
from cloud_tasks.cli.options.queues import queue_text
from cloud_tasks.cli.options.statuses import parse_statuses
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.cli.ui.confirmation import choose, confirm, is_interactive
from cloud_tasks.cli.ui.hangup import controller_log
from cloud_tasks.cli.ui.interrupts import Interrupts, ask_plainly
from cloud_tasks.cli.ui.live import LiveView
from cloud_tasks.cli.ui.progress_log import ProgressLog
from cloud_tasks.config import JobConfig, parallel_launches
from cloud_tasks.controller import Job, JobResult, NextCommands, Progress, RunRequest
from cloud_tasks.errors import InputError
from cloud_tasks.model import FINAL_STATUSES, JobPhase, TaskStatus
from cloud_tasks.quantities import counted
from cloud_tasks.registry import Registry
from cloud_tasks.report import (
    dump_tasks,
    render_final_report,
    render_job_configuration,
    render_selected_offer,
    render_summary,
)
from cloud_tasks.selection import Ranking

__all__ = ["run"]

log = structlog.get_logger()


def run(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "run",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks run --config config.yml --task-file tasks.json",
            "cloud-tasks run --config config.yml --continue",
            "cloud-tasks run --config config.yml --retry-failed --where timed_out,dead",
            "cloud-tasks run --config config.yml --task-file tasks.json --dry-run",
        ),
    )
    @job_input_options
    @click.option("--continue", "resume", is_flag=True, help="Resume the job in the database.")
    @click.option("--retry-failed", is_flag=True, help="Rerun the failed tasks in the database.")
    @click.option(
        "--where",
        metavar="STATUS[,STATUS]",
        help="Statuses of the tasks to rerun (default: failed,timed_out,exited,dead).",
    )
    @force_option
    @output_option(
        "--output-file",
        help="Path of a file to copy all events to (JSON Lines).",
        instead="set event_sinks: [console] to print events",
    )
    @click.option(
        "--on-interrupt",
        type=click.Choice(["ask", "terminate", "leave"]),
        default="ask",
        help="Effect of an interrupt on the instances (default: ask at Ctrl-C on a terminal, continue when the "
        "terminal is closed, else terminate).",
    )
    @click.option(
        "--dump-tasks/--no-dump-tasks",
        default=False,
        help="Write the tasks of each status to {job_id}_{status}.json after an interrupt (default: --no-dump-tasks).",
    )
    @click.option(
        "--live/--no-live",
        default=True,
        help="Show a live view instead of log lines on a terminal (default: --live).",
    )
    @verbose_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> int:
        """Run a job from start to end.

        Load the tasks, launch instances, collect results, terminate the instances, and print the report.
        """
        app.start_logging(verbosity=values["verbose"])
        return _run(app, values)

    return command


def _run(app: AppContext, values: dict[str, Any]) -> int:
    config = load_from_options(app.registry, values)
    for line in (*config.override_lines(), *trait_warnings(config)):
        log.warning(line)
    retry = _statuses_to_retry(values)
    request = RunRequest(
        task_file=values["task_file"],
        db_file=database_of(config),
        start_task=values["start_task"] - 1,
        limit=values["limit"],
        allow_empty=values["allow_empty"],
        resume=values["resume"] or bool(retry),
        retry=retry,
        output_file=values["output_file"],
        next_commands=next_commands(config),
    )
    if not (request.resume or values["force"] or values["dry_run"]):
        request, values["force"] = _ask_about_existing(request, config)
    is_live = sys.stderr.isatty() and values["live"] and app.log_format == "text"
    with (
        _Display(request.db_file, is_live=is_live) as display,
        Job(app.registry, config, request) as job,
        Interrupts(
            job,
            values["on_interrupt"],
            ask=display.ask,
            log_file=controller_log(config.base_dir, job.job_id),
            restore=display.close,
            resume=request.next_commands.resume(None),
            stop=request.next_commands.stop,
        ),
    ):
        _describe(config, job)
        if request.resume:
            remaining = _describe_resumed(request, job)
        else:
            remaining = job.load()
            log.info(f"{counted(remaining, 'task')} found")
        ranking = job.choose()
        _describe_choice(ranking)
        obstacles = () if request.resume else job.obstacles()
        if values["dry_run"]:
            for obstacle in obstacles:
                log.info(f"Would overwrite {obstacle}")
            if reason := job.exhausted_budget():
                log.error(f"Dry run: the run would end at once: {reason}")
                return exit_codes.RUN_FAILED
            log.info(f"Dry run: {counted(remaining, 'task')} would be run; nothing was changed")
            return exit_codes.COMPLETED
        if obstacles:
            confirm(
                f"overwrite {'; '.join(obstacles)}",
                force=values["force"],
                instead="--continue to resume the job",
            )
        result = job.run(ranking, on_progress=display.show)
    code = _report(result, config, request.next_commands)
    if values["dump_tasks"] and result.outcome in (JobPhase.STOPPED, JobPhase.LEFT):
        with read_database(request.db_file) as store:
            for file in dump_tasks(store, Path.cwd()):
                echo(f"Wrote {file}", err=True)
    return code


def _ask_about_existing(request: RunRequest, config: JobConfig) -> tuple[RunRequest, bool]:
    """Ask on a terminal what to do about an existing job; return the request, and whether to overwrite the job."""
    if not is_interactive() or not request.db_file.exists():
        return request, False
    try:
        with read_database(request.db_file, job_id=config.run.job_id) as store:
            summary = store.summary()
            running = sum(record.ended_at is None for record in store.instances())
    except InputError:
        # Not a job that could be continued: the confirmation shows what it is.
        return request, False
    finished = f"{summary.finished_tasks:,} of {counted(summary.total, 'task')} finished"
    instances = f", {counted(running, 'instance')} not known to be terminated" if running else ""
    answer = choose(
        f"Job {summary.job.job_id} exists: {finished}{instances} ({request.db_file}).\n"
        "[C]ontinue it, [o]verwrite it (its database is kept under another name), or [q]uit? [C] ",
        "coq",
    )
    if answer == "q":
        raise InputError("not started, nothing was changed", hint="add --continue to resume the job")
    if answer == "c":
        if request.task_file is not None:
            log.info(f"Continuing the job in {request.db_file}; --task-file is not read again")
        return attrs.evolve(request, resume=True), False
    return request, True


class _Display:
    """Progress of a run in the log or, with `is_live`, in a live view; a context manager."""

    def __init__(self, database: Path, *, is_live: bool) -> None:
        self._view = LiveView(database) if is_live else None
        self._is_started = False
        self._log = ProgressLog(is_silent=self._is_view_shown)

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the view; idempotent. Safe in any thread."""
        if self._view is not None:
            self._view.stop()

    def show(self, progress: Progress) -> None:
        """Show the progress of the run; the first call starts the view."""
        if self._view is not None and not self._is_started:
            self._is_started = True
            self._view.start()
        self._log(progress)

    def ask(self, question: str, read: Callable[[], str]) -> str:
        """Prompt below the view or the log."""
        ask = self._view.ask if self._view is not None and self._view.is_shown else ask_plainly
        return ask(question, read)

    def _is_view_shown(self) -> bool:
        return self._view is not None and self._view.is_shown


def _describe(config: JobConfig, job: Job) -> None:
    log.info(f"Loading configuration from {config.file}" if config.file else "Running without a configuration file")
    log.info(f"Starting pool management for job: {job.job_id}")
    run = config.run
    text = render_job_configuration(
        provider=config.provider.upper()
        if config.provider
        else f"none; queue {config.queue}, compute {config.compute}",
        region=run.region,
        zone=run.zone,
        job_id=job.job_id,
        queue_name=queue_text(job.queue_name, job.event_queue_name),
        constraints=config.constraints(),
        limits=config.limits(),
        scaling_check_interval=run.scaling_check_interval,
        instance_termination_delay=run.instance_termination_delay,
        max_runtime=run.max_runtime,
        max_parallel_instance_creations=parallel_launches(config),
        image=run.image,
        startup_script=config.require_startup_script() or _shipped_script(config),
        spot_fallback=run.spot_fallback,
    )
    for line in text.splitlines():
        log.info(line)


def _shipped_script(config: JobConfig) -> str:
    what = config.run.program or "the command"
    return f"made by cloud-tasks: downloads from {config.run.staging}, and starts {what}"


def _describe_resumed(request: RunRequest, job: Job) -> int:
    """Log the status of the resumed job; return the number of tasks to run."""
    with read_database(request.db_file, job_id=job.job_id) as store:
        store.check_content()
        summary = store.summary()
    log.info(f"Resuming: {summary.finished_tasks:,} of {counted(summary.total, 'task')} finished")
    retried = sum(summary.counts[status] for status in request.retry)
    if request.retry:
        names = ", ".join(sorted(status.value for status in request.retry))
        log.info(f"Rerunning {counted(retried, 'finished task')} ({names})")
        if not retried and summary.finished:
            raise InputError(
                f"no tasks to rerun: none is {names.replace(', ', ' or ')}",
                hint="show the task counts with `cloud-tasks status`",
            )
    return summary.remaining + retried


_RETRIABLE = FINAL_STATUSES - {TaskStatus.COMPLETED}


def _statuses_to_retry(values: dict[str, Any]) -> frozenset[TaskStatus]:
    """Return the statuses selected by ``--retry-failed`` and ``--where``; none without the former."""
    if not values["retry_failed"]:
        if values["where"] is not None:
            raise InputError("--where requires --retry-failed", hint="add --retry-failed")
        return frozenset()
    if values["task_file"] is not None:
        raise InputError("--retry-failed takes its tasks from the database", hint="omit --task-file")
    if values["where"] is None:
        return _RETRIABLE
    return parse_statuses(values["where"], _RETRIABLE)


def _describe_choice(ranking: Ranking) -> None:
    for warning in ranking.warnings:
        log.warning(warning)
    for note in ranking.notes:
        log.info(note)
    for line in render_selected_offer(ranking, now=datetime.now(UTC)).splitlines():
        log.info(line)


def _report(result: JobResult, config: JobConfig, commands: NextCommands) -> int:
    """Print the result; return the exit code."""
    for name, count in result.dropped_events.items():
        log.warning(f'Event sink "{name}" missed {counted(count, "event")}; the database has all of them')
    if result.outcome is JobPhase.COMPLETE:
        next_steps = after_failures(result.statistics, config)
        echo(render_final_report(result.statistics, result.elapsed, next_steps=next_steps))
        return code_of_job(result.statistics.summary, config) if result.all_gone else exit_codes.RUN_FAILED
    if result.console_log:
        echo("Console log of an instance:\n" + result.console_log, err=True)
    if result.outcome is JobPhase.ABORTED:
        echo(f"Error: job stopped: {result.reason}; resume it with `{commands.resume(None)}`", err=True)
    echo(render_summary(result.statistics.summary, cost=result.statistics.cost, separates_queued=False), err=True)
    if result.outcome is not JobPhase.ABORTED:
        return exit_codes.INTERRUPTED
    return exit_codes.BAD_INPUT if result.bad_input else exit_codes.RUN_FAILED
