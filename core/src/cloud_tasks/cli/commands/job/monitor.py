"""``cloud-tasks monitor``: collect the events of workers started by hand, and show the progress.

Invariants, each with a test:

1. It launches and terminates no instance, and deletes no queue.
2. An interrupt loses nothing: events that were not applied stay in the event queue.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from types import FrameType
from typing import Any

import click
import structlog

from cloud_tasks import exit_codes
from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, json_option, output_option, verbose_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.database import database_of
from cloud_tasks.cli.options.job_end import after_failures, code_of_job
from cloud_tasks.cli.options.queues import job_queues
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.cli.ui.live import LiveView
from cloud_tasks.config import JobConfig
from cloud_tasks.controller import EventCollector, Progress, SinkDispatcher, ThreadedLoop
from cloud_tasks.errors import InputError, StoreError
from cloud_tasks.model import Event, JobPhase
from cloud_tasks.plugin import EventSink, EventSinkContext, Queue
from cloud_tasks.quantities import counted
from cloud_tasks.registry import Registry
from cloud_tasks.report import render_final_report, render_summary, status_dict, throughput
from cloud_tasks.store import JobClock, JobState, Store

__all__ = ["EventMonitor", "monitor"]

log = structlog.get_logger()

_SINK_TIMEOUT = timedelta(seconds=60)
"""Time limit for event sinks to finish at the end."""


def monitor(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "monitor",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks monitor --config config.yml",
            "cloud-tasks monitor --config config.yml --output-file events.jsonl --no-auto-complete",
            "cloud-tasks monitor --provider local --job-id sums --print-events",
        ),
    )
    @output_option(
        "--output-file",
        help="Path of a file to copy all events to (JSON Lines).",
        instead="use --print-events",
    )
    @click.option("--print-events", is_flag=True, help="Print each event as a line of JSON.")
    @click.option(
        "--auto-complete/--no-auto-complete",
        default=True,
        help="Exit when all tasks are finished (default: --auto-complete).",
    )
    @json_option
    @verbose_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> int:
        """Collect the events of workers started by hand, until all tasks are finished.

        For tasks loaded with `cloud-tasks load-queue`; `run` collects events by itself.
        """
        app.start_logging(verbosity=values["verbose"])
        config = load_from_options(app.registry, values)
        if not config.run.job_id:
            raise InputError("no job given", hint="add --job-id or --config")
        database = database_of(config)
        if not database.exists():
            hint = "check --db-file, or load the tasks with `cloud-tasks load-queue`"
            raise InputError(f"job database {database} not found", hint=hint)
        events = job_queues(config, events_only=True).chosen[0]
        with (
            Store.open(database, job_id=config.run.job_id) as store,
            events.open(config) as queue,
            _sinks(app.registry, config, values) as sinks,
        ):
            if not queue.exists():
                hint = "check --job-id, or load the tasks with `cloud-tasks load-queue`"
                raise InputError(f'event queue "{events.name}" not found', hint=hint)
            if store.job.state is JobState.LOADING:
                raise InputError(
                    "the setup of this job was interrupted",
                    where=str(database),
                    hint="complete it with `cloud-tasks load-queue --continue`",
                )
            interval = timedelta(seconds=config.run.scaling_check_interval)
            event_monitor = EventMonitor(store, queue, sinks, config, interval=interval)
            return event_monitor.run(forever=not values["auto_complete"], as_json=values["as_json"])

    return command


@contextlib.contextmanager
def _sinks(registry: Registry, config: JobConfig, values: dict[str, Any]) -> Iterator[dict[str, EventSink]]:
    """Open the configured event sinks and those of the options."""
    wanted = {"jsonl": values["output_file"] is not None, "console": values["print_events"]}
    names = dict.fromkeys((*config.event_sinks, *(name for name, asked in wanted.items() if asked)))
    context = EventSinkContext(
        job_id=config.run.job_id or "", output_file=values["output_file"], base_dir=config.folder
    )
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(registry.event_sink(name).open(config.settings_for("event_sink", name), context))
            for name in names
        }


class EventMonitor:
    """Collection of events until all tasks are finished, or until an interrupt."""

    def __init__(
        self, store: Store, queue: Queue, sinks: dict[str, EventSink], config: JobConfig, *, interval: timedelta
    ) -> None:
        self._store = store
        self._config = config
        self._interval = interval
        clock = JobClock()
        clock.resume(store)
        self._loop = ThreadedLoop(threads=2 + len(sinks), clock=clock)
        self._dispatcher = SinkDispatcher(self._loop, sinks)
        self._collector = EventCollector(self._loop, store, queue, on_events=self._collected)
        self._shown: object = None
        self._forever = False
        self._interrupted = False
        self._view = LiveView(store.path) if sys.stderr.isatty() else None

    def run(self, *, forever: bool, as_json: bool) -> int:
        """Collect until the end, then print the result; return the exit code.

        Args:
            forever: Continue after all tasks are finished, until an interrupt.
        """
        self._forever = forever
        started = self._loop.now()
        self._store.begin_run(started)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in handlers:
            signal.signal(number, self._signalled)
        try:
            self._collector.start()
            self._end_if_complete()
            with self._view or contextlib.nullcontext():
                self._show()
                self._loop.run(lambda: self._collector.stopped)
                phase = JobPhase.COMPLETE if self._store.summary().finished else JobPhase.LEFT
                self._dispatcher.send_progress(Progress.read(self._store, self._loop.now()).for_sinks(phase=phase))
                self._dispatcher.finish(_SINK_TIMEOUT)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self._loop.close()
            with contextlib.suppress(StoreError):
                self._store.end_run(self._loop.now())
        for name, count in self._dispatcher.dropped().items():
            log.warning(f'Event sink "{name}" missed {counted(count, "event")}; the database has all of them')
        is_finished = self._store.summary().finished
        if is_finished:
            self._store.set_state(JobState.FINISHED, self._loop.now())
        if as_json:
            echo(json.dumps(status_dict(self._store.summary()), indent=2))
        elif is_finished:
            elapsed = self._loop.now() - started
            statistics = self._store.statistics()
            echo(render_final_report(statistics, elapsed, next_steps=after_failures(statistics, self._config)))
        else:
            echo(render_summary(self._store.summary()), err=True)
        if not is_finished or (self._interrupted and not self._forever):
            return exit_codes.INTERRUPTED
        return code_of_job(self._store.summary(), self._config)

    def _signalled(self, number: int, _: FrameType | None) -> None:
        self._loop.post(self._interrupt)

    def _interrupt(self) -> None:
        if not self._interrupted:
            log.info("Interrupted; events that are not collected yet stay in the event queue")
            self._interrupted = True
            self._collector.stop()

    def _collected(self, events: Sequence[Event]) -> None:
        self._dispatcher.write(events)
        self._end_if_complete()

    def _end_if_complete(self) -> None:
        if not self._forever and self._store.summary().finished:
            self._collector.stop()

    def _show(self) -> None:
        """Show the summary if it has changed, and again after each interval."""
        with contextlib.suppress(StoreError):
            self._store.record_alive(self._loop.now())
        progress = Progress.read(self._store, self._loop.now())
        if self._dispatcher.takes_progress:
            self._dispatcher.send_progress(progress.for_sinks())
        summary = progress.summary
        is_shown = self._view is not None and self._view.is_shown
        if summary != self._shown and not is_shown:
            self._shown = summary
            cost, price = (progress.cost, progress.price_per_hour) if progress.instances else (None, None)
            pace = throughput(summary, progress.now)
            echo(render_summary(summary, pace=pace, cost=cost, price_per_hour=price), err=True)
        self._loop.later(self._interval, self._show)
