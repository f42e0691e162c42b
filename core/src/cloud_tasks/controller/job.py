"""One run of one job, from its configuration to its report: opens what is needed, in order, and closes it again.

Invariants, each with a test:

1. Nothing is created, deleted or replaced before the whole input was checked and the user has agreed.
2. ``dry_run`` changes nothing anywhere.
3. Queues are deleted only when the job is complete; a run that ended otherwise can be continued.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import structlog

import cloud_tasks
from cloud_tasks.builtin import open_task_source
from cloud_tasks.config import JobConfig, parallel_launches
from cloud_tasks.controller.assembly import Opened, assemble_controller
from cloud_tasks.controller.beginning import go_on, start_afresh
from cloud_tasks.controller.choice import rank_offers, require_offer
from cloud_tasks.controller.controller import Controller
from cloud_tasks.controller.copies import EventCopies
from cloud_tasks.controller.feed import MOST_PARALLEL_SENDS
from cloud_tasks.controller.launch_orders import LaunchOrders, check_launch
from cloud_tasks.controller.loop import ThreadedLoop
from cloud_tasks.controller.opening import open_compute, open_queue
from cloud_tasks.controller.standing import Progress
from cloud_tasks.errors import InputError, NotFound, StoreError
from cloud_tasks.model import JobPhase, TaskStatus
from cloud_tasks.plugin import Compute, EventSink, EventSinkContext, Queue
from cloud_tasks.registry import Registry
from cloud_tasks.selection import RankedOffer, Ranking
from cloud_tasks.store import JobRecord, JobState, JobStatistics, Store
from cloud_tasks.store.history import iterate_events

__all__ = ["Job", "JobResult", "RunRequest"]

log = structlog.get_logger()

_OTHER_CALLS = 6 + MOST_PARALLEL_SENDS
"""Blocking calls that may be under way beside launches and sinks: events, listings, terminations, tasks."""
_LATEST_EVENTS = 40_000
"""Events that sinks which keep each once get again when a run continues."""
_SINK_PATIENCE = timedelta(seconds=60)
"""How long the end of a run waits for event sinks; the database has all events by then."""


@attrs.frozen(kw_only=True)
class RunRequest:
    """What the user asked ``run`` for, besides the configuration."""

    task_file: str | None
    """A path, a URL, ``module:function`` or ``source:location``; None: the configuration's ``task_source``."""
    db_file: Path
    start_task: int = 0
    """How many tasks to skip at the beginning."""
    limit: int | None = None
    resume: bool = False
    """Go on with the job in the database."""
    retry: frozenset[TaskStatus] = frozenset()
    """With ``resume``: begin a new pass over the tasks of these final statuses."""
    output_file: Path | None = None


@attrs.frozen(kw_only=True)
class JobResult:
    outcome: JobPhase
    statistics: JobStatistics
    elapsed: timedelta
    """Of this run."""
    reason: str
    bad_input: bool
    """Whether it was aborted because of the configuration or the startup script."""
    console_log: str
    all_gone: bool
    lost_copies: Mapping[str, int]


class Job:
    """The steps of a run, to be called in the order in which they are written.

    Args:
        on_ranking: Told the ranked offers once they are known.
        on_progress: Told how the run stands, every scaling interval.
    """

    def __init__(self, registry: Registry, config: JobConfig, request: RunRequest) -> None:
        self._registry = registry
        self._config = config
        self._request = request
        self._stack = contextlib.ExitStack()
        registry.queue(config.queue)
        registry.pricing(config.pricing)
        registry.compute(config.compute)
        self._script = config.require_startup_script()
        if not config.run.job_id:
            raise InputError("no job id was given", hint="set run.job_id in the configuration, or --job-id")
        self.job_id: str = config.run.job_id
        self.queue_name: str = config.run.queue_name or self.job_id
        self._loaded: Store | None = None
        self._sinks: Mapping[str, EventSink] = {}
        self.controller: Controller | None = None

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # -- without any change --------------------------------------------------------------------------------------

    def load(self) -> int:
        """Check the whole input and put it into a new database beside the final one; returns the number of tasks.

        Raises:
            InputError: The input is broken.
        """
        spec = self._request.task_file or self._config.task_source
        if spec is None:
            raise InputError("no tasks were given", hint="name a task file with --task-file, or set task_source")
        folder = self._request.db_file.absolute().parent
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder}", where="--db-file", hint="create it first")
        scratch = self._stack.enter_context(tempfile.TemporaryDirectory(prefix=".cloud-tasks-load-", dir=folder))
        record = JobRecord(
            job_id=self.job_id,
            queue_name=self.queue_name,
            run_id=secrets.token_hex(8),
            created_at=datetime.now(UTC),
            provider=self._config.provider or "",
            queue=self._config.queue,
            compute=self._config.compute,
            pricing=self._config.pricing,
            task_source=str(spec),
            tool_version=cloud_tasks.__version__,
            config=self._config.as_dict(),
        )
        self._loaded = self._stack.enter_context(Store.create(Path(scratch) / "job.db", record))
        with open_task_source(
            self._registry, spec, base_dir=Path.cwd(), settings_for=self._config.settings_for
        ) as source:
            return self._loaded.load_tasks(source, start=self._request.start_task, limit=self._request.limit)

    def choose(self) -> Ranking:
        """Rank the offers. Raises `InputError` when none satisfies the constraints, or the best cannot be launched."""
        ranking = require_offer(rank_offers(self._config, self.job_id))
        check_launch(self._config, ranking.offers, job_id=self.job_id, queue_name=self.queue_name)
        return ranking

    def obstacles(self) -> tuple[str, ...]:
        """What a fresh run would destroy, in words: an earlier database, messages in the queues, instances."""
        found: list[str] = []
        database = self._request.db_file
        if database.exists():
            found.append(f"database {database}{_content(database)}")
        for queue in (self._open_queue(self.queue_name), self._open_queue(f"{self.queue_name}-events")):
            with queue as opened, contextlib.suppress(NotFound):
                depth = opened.depth()
                held = (depth.visible or 0) + (depth.in_flight or 0)
                if held:
                    found.append(f"a queue with {held} messages")
        with self._open_compute() as compute:
            running = [i for i in compute.instances(self.job_id) if i.is_alive]
        if running:
            found.append(f"{len(running)} running instances of this job")
        return tuple(found)

    # -- with changes ----------------------------------------------------------------------------------------------

    def run(
        self,
        ranking: Ranking,
        *,
        on_progress: Callable[[Progress], None],
        on_started: Callable[[Controller, ThreadedLoop], None],
    ) -> JobResult:
        """Create or continue the job and see it through.

        Args:
            on_started: Given the controller before it runs, to connect signals to it.
        """
        started = time.monotonic()
        log.info("Starting orchestrator")
        stack = self._stack
        # What is wrong with a sink is said before anything is replaced.
        self._sinks = self._open_sinks()
        compute = stack.enter_context(self._open_compute())
        tasks = stack.enter_context(self._open_queue(self.queue_name))
        events = stack.enter_context(self._open_queue(f"{self.queue_name}-events", for_events=True))
        if self._loaded is not None:
            store = self._loaded
            start_afresh(store, self._request.db_file, job_id=self.job_id, compute=compute, tasks=tasks, events=events)
        else:
            store = stack.enter_context(Store.open(self._request.db_file, job_id=self.job_id))
            go_on(store, tasks=tasks, events=events)
        if self._request.retry:
            reopened = store.reopen_tasks(self._request.retry)
            log.info(f"A new pass over {reopened} tasks begins")
        store.set_state(JobState.RUNNING, datetime.now(UTC))
        store.begin_run(datetime.now(UTC))
        opened = Opened(store=store, compute=compute, tasks=tasks, events=events)
        loop = ThreadedLoop(threads=parallel_launches(self._config) + _OTHER_CALLS + len(self._sinks))
        try:
            result = self._drive(loop, opened, ranking.offers, on_progress, on_started)
            if result.outcome is JobPhase.COMPLETE:
                log.info("Job complete, deleting queues")
                tasks.delete()
                events.delete()
                store.set_state(JobState.FINISHED, datetime.now(UTC))
            elapsed = timedelta(seconds=time.monotonic() - started)
            return attrs.evolve(result, statistics=store.statistics(), elapsed=elapsed)
        finally:
            loop.close()

    def _drive(
        self,
        loop: ThreadedLoop,
        opened: Opened,
        offers: Sequence[RankedOffer],
        on_progress: Callable[[Progress], None],
        on_started: Callable[[Controller, ThreadedLoop], None],
    ) -> JobResult:
        store = opened.store
        copies = EventCopies(loop, self._sinks)
        limit = self._config.limits().max_total_cost

        def progressed(progress: Progress) -> None:
            if copies.tells:
                copies.tell(progress.for_sinks(max_total_cost=limit))
            on_progress(progress)

        orders = LaunchOrders(
            self._config,
            self._script,
            job_id=self.job_id,
            queue_name=self.queue_name,
            run_id=store.job.run_id,
            earlier_attempts=store.earlier_attempts(),
        )
        controller = assemble_controller(
            loop,
            opened,
            registry=self._registry,
            config=self._config,
            job_id=self.job_id,
            offers=offers,
            orders=orders,
            copies=copies,
            on_progress=progressed,
        )
        self.controller = controller
        on_started(controller, loop)
        copies.tell(Progress.read(store, loop.now()).for_sinks(max_total_cost=limit))
        if self._loaded is None:
            self._catch_up(copies, store)
        outcome = controller.run()
        last = Progress.read(store, loop.now())
        copies.tell(last.for_sinks(phase=outcome, reason=controller.reason, max_total_cost=limit))
        copies.finish(_SINK_PATIENCE)
        return JobResult(
            outcome=outcome,
            statistics=store.statistics(),
            elapsed=timedelta(0),
            reason=controller.reason,
            bad_input=controller.bad_input,
            console_log=controller.console_log,
            all_gone=controller.all_gone,
            lost_copies=copies.lost(),
        )

    def _open_compute(self) -> contextlib.AbstractContextManager[Compute]:
        return open_compute(self._config, self.job_id)

    def _open_queue(self, name: str, *, for_events: bool = False) -> contextlib.AbstractContextManager[Queue]:
        return open_queue(self._config, self.job_id, name, for_events=for_events)

    def _open_sinks(self) -> dict[str, EventSink]:
        names = list(self._config.event_sinks)
        if self._request.output_file is not None and "jsonl" not in names:
            names.append("jsonl")
        context = EventSinkContext(job_id=self.job_id, output_file=self._request.output_file)
        return {
            name: self._stack.enter_context(
                self._registry.event_sink(name).open(self._config.settings_for("event_sink", name), context)
            )
            for name in names
        }

    def _catch_up(self, copies: EventCopies, store: Store) -> None:
        """Give the latest events again to sinks that keep each once: a killed controller had some in its hands."""
        names = {name for name in self._sinks if self._registry.event_sink(name).idempotent}
        if not names:
            return
        known = sum(store.summary().events.values())
        events = iterate_events(store.path, after=max(0, known - _LATEST_EVENTS))
        while batch := list(itertools.islice(events, 1000)):
            copies.write(batch, only=names)


def _content(database: Path) -> str:
    """What a file holds that is about to be replaced, whatever it is."""
    try:
        with Store.open(database, read_only=True) as store:
            summary = store.summary()
    except StoreError as error:
        return f" ({error.message})"
    return f" with {summary.finished_tasks} of {summary.total} tasks of job {summary.job.job_id} in a final state"
