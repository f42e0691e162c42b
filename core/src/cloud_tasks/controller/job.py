"""One run of one job: opens what a configuration names, runs the controller, and closes everything again.

Invariants, each with a test:

1. Nothing is created, deleted or overwritten before the whole input was validated and the user has confirmed.
2. ``dry_run`` changes nothing anywhere.
3. Queues are deleted only when the job is complete, and its database is in its place; a run that ended otherwise can
   be resumed.
4. Whatever ends the run after its start, its instances are terminated unless the user chose to leave them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import attrs
import structlog

from cloud_tasks.config import JobConfig, parallel_launches, read_secrets, secret_deliveries
from cloud_tasks.controller.autoscaler.instance_calls import MAX_ABANDONED_CALLS
from cloud_tasks.controller.autoscaler.reconciler import MAX_ABANDONED_DEPTHS
from cloud_tasks.controller.autoscaler.rules.budget import limit_reached
from cloud_tasks.controller.controller import Controller, StopMode
from cloud_tasks.controller.deferred_writes import wait_for_store
from cloud_tasks.controller.event_loop import ThreadedLoop
from cloud_tasks.controller.failed_run import (
    InstancesLeft,
    NextCommands,
    end_instances,
    instances_left,
    with_instances,
)
from cloud_tasks.controller.launch.job_secrets import forget_secrets, write_secrets
from cloud_tasks.controller.launch.launch_request import LaunchRequestBuilder, check_launch
from cloud_tasks.controller.launch.shipped_program import ShippedProgram
from cloud_tasks.controller.launch.terminate import note_zones
from cloud_tasks.controller.messaging.enqueuer import MAX_PARALLEL_SENDS
from cloud_tasks.controller.messaging.progress import Progress
from cloud_tasks.controller.messaging.sink_dispatcher import SinkDispatcher
from cloud_tasks.controller.setup.credentials_end import credentials_warning
from cloud_tasks.controller.setup.job_setup import JobInput, JobSetup, records_instances
from cloud_tasks.controller.setup.lifetime_check import check_max_runtime
from cloud_tasks.controller.setup.offers import rank_offers, require_offer
from cloud_tasks.controller.setup.program_check import check_program
from cloud_tasks.controller.setup.provider_checks import AccountError, check_account, explained_by_checks
from cloud_tasks.controller.setup.shipping import prepare_program, record_bundle
from cloud_tasks.controller.setup.wiring import RunResources, assemble_controller
from cloud_tasks.errors import PlaceError, StoreError
from cloud_tasks.model import JobPhase, LaunchRequest, Money, TaskStatus
from cloud_tasks.plugin import Compute, EventSink, EventSinkContext
from cloud_tasks.quantities import format_size
from cloud_tasks.registry import Registry
from cloud_tasks.selection import RankedOffer, Ranking
from cloud_tasks.store import JobClock, JobState, JobStatistics, Store, iterate_events, job_time

__all__ = ["Job", "JobResult", "RunRequest"]

log = structlog.get_logger()

_OTHER_CALLS = 7 + MAX_PARALLEL_SENDS + MAX_ABANDONED_CALLS + MAX_ABANDONED_DEPTHS
"""Maximum number of blocking calls at a time besides launches and sinks: events, listings, terminations, tasks,
prices."""
_LATEST_EVENTS = 40_000
"""Number of events that idempotent sinks get again when a run is resumed."""
_SINK_TIMEOUT = timedelta(seconds=60)
"""Maximum time for which the end of a run waits for event sinks; the database has all events by then."""


@attrs.frozen(kw_only=True)
class RunRequest(JobInput):
    """Options of ``run`` besides the configuration."""

    resume: bool = False
    """Resume the job in the database."""
    retry: frozenset[TaskStatus] = frozenset()
    """With ``resume``: rerun the finished tasks of these statuses."""
    output_file: Path | None = None
    next_commands: NextCommands = attrs.field(factory=NextCommands)
    """The commands that an error names."""


@attrs.frozen(kw_only=True)
class JobResult:
    """Result of a run."""

    outcome: JobPhase
    statistics: JobStatistics
    elapsed: timedelta
    """Duration of this run."""
    reason: str
    bad_input: bool
    """Whether the configuration or the startup script caused an abort."""
    console_log: str
    all_gone: bool
    dropped_events: Mapping[str, int]
    """Number of events that each failing sink did not get."""


class Job:
    """The steps of a run, to be called in the order of their definition: `load`, `choose`, `obstacles`, `run`."""

    def __init__(self, registry: Registry, config: JobConfig, request: RunRequest) -> None:
        self._registry = registry
        self._config = config
        self._request = request
        self._setup = JobSetup(registry, config, request, starts_instances=True, resume=request.resume)
        registry.queue(config.queue)
        registry.pricing(config.pricing)
        registry.compute(config.compute)
        self._script = config.require_startup_script()
        for secret in secret_deliveries(config):
            log.info(secret.describe(config.compute))
        self._secrets = read_secrets(config, os.environb)
        self.job_id = self._setup.job_id
        self._stack = contextlib.ExitStack()
        self._sinks: Mapping[str, EventSink] = {}
        self._running: tuple[Controller, ThreadedLoop] | None = None
        self._program: ShippedProgram | None = None
        """What the instances download; None if they have it."""
        self._tasks: int | None = None
        """Number of loaded tasks; None for a job that is resumed."""
        self._is_started = False
        """Whether the database of this run is in its place."""
        self._is_failing = False

    @property
    def queue_name(self) -> str:
        """Full name of the task queue."""
        return self._setup.queue_name

    @property
    def event_queue_name(self) -> str:
        """Full name of the event queue."""
        return self._setup.event_queue_name

    def __enter__(self) -> Job:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        with self._setup, self._stack:
            pass
        # Commands with the options of another place would not find them.
        is_elsewhere = isinstance(error, PlaceError)
        if error is not None and self._request.resume and not self._is_failing and not is_elsewhere:
            # An error before the run: what an earlier run left is still running.
            left = instances_left(self._request.db_file, self.job_id, compute=None, is_started=False)
            reported = with_instances(error, left, self._request.next_commands)
            if reported is not error:
                raise reported from error

    # -- read-only ------------------------------------------------------------------------------------------------

    def load(self) -> int:
        """Validate and load the whole input; return the number of tasks (`JobSetup.load`)."""
        self._tasks = self._setup.load()
        return self._tasks

    def choose(self) -> Ranking:
        """Rank the offers, and check whether the provider's account allows the run.

        Raises:
            InputError: No offer satisfies the constraints, the best cannot be launched, no instance lives for one task,
                or a check of the account failed.
        """
        if self._request.resume:
            self._setup.check_resumable()
        elif note := check_program(self._config, self._secrets):
            log.warning(note)
        with explained_by_checks(self._config):
            ranking = require_offer(rank_offers(self._config, self.job_id), self._config)
        resumed = self.job_id if self._request.resume else ""
        self._program = prepare_program(self._config, ranking.offers, resumed=resumed, secrets=self._secrets)
        launch = check_launch(
            self._config, ranking.offers, job_id=self.job_id, queue_name=self.queue_name, program=self._program
        )
        for line in self._check_account(launch):
            log.warning(line)
        for warning in (
            check_max_runtime(self._config, ranking.offers, spent=self._spent()),
            credentials_warning(self._config, ranking.offers[0], self._tasks),
        ):
            if warning:
                log.warning(warning)
        return ranking

    def _check_account(self, launch: LaunchRequest | None) -> tuple[str, ...]:
        """Return the warnings of the account's checks. A resumed run with instances does not depend on launches."""
        try:
            return check_account(self._config, launch)
        except AccountError as error:
            if self._request.resume and records_instances(self._request.db_file):
                return error.problems
            raise

    def _spent(self) -> Money:
        """Return the cost of the job that is resumed; zero for a new one."""
        if self._request.resume and self._request.db_file.exists():
            with contextlib.suppress(StoreError), Store.open(self._request.db_file, read_only=True) as store:
                return store.spending(job_time(store))
        return Money.zero()

    def exhausted_budget(self) -> str:
        """Return why a resumed run would end at once; empty if the limit on the total cost is not reached."""
        spent, limit = self._spent(), self._config.run.max_total_cost
        return limit_reached(spent, limit) if limit is not None and spent and spent >= limit else ""

    def obstacles(self) -> tuple[str, ...]:
        """Describe what a new run would overwrite (`JobSetup.obstacles`)."""
        return self._setup.obstacles()

    # -- the run ----------------------------------------------------------------------------------------------------

    def run(self, ranking: Ranking, *, on_progress: Callable[[Progress], None]) -> JobResult:
        """Create or resume the job and run it to its end.

        An error after the start ends the instances first, unless ``run.on_error`` leaves them.

        Raises:
            CloudTasksError: The job cannot be run, or an error ended it; the message has what is left running.
        """
        try:
            result = self._run(ranking, on_progress)
        except BaseException as error:
            self._is_failing = True
            left = self._end_after(error)
            reported = with_instances(error, left, self._request.next_commands)
            if reported is error:
                raise
            raise reported from error
        else:
            if result.outcome is not JobPhase.LEFT:
                forget_secrets(self._config, self.job_id)
            return result
        finally:
            self._running = None

    def _end_after(self, error: BaseException) -> InstancesLeft:
        """End the instances of a run that failed, unless its controller did or the user chose to leave them."""
        running = self._running
        phase = running[0].phase if running is not None else JobPhase.RUNNING
        gone = running is not None and running[0].all_gone
        leave = phase is JobPhase.LEFT or self._config.run.on_error == StopMode.LEAVE.value
        compute = self._setup.compute if self._is_started or self._request.resume else None
        if self._is_started and not gone and not leave and compute is not None:
            if running is None or running[0].error is not error:
                log.error(f"The run failed, terminating all instances: {type(error).__name__}: {error}")
            with contextlib.suppress(KeyboardInterrupt):
                end_instances(compute, self.job_id, self._request.db_file)
        left = instances_left(self._request.db_file, self.job_id, compute=compute, is_started=self._is_started)
        if self._is_started and not left.count:
            forget_secrets(self._config, self.job_id)
        return left

    def _run(self, ranking: Ranking, on_progress: Callable[[Progress], None]) -> JobResult:
        started = time.monotonic()
        log.info("Starting orchestrator")
        # A broken sink is reported before anything is overwritten.
        self._sinks = self._open_sinks()
        self._ship()
        compute = self._setup.compute
        # Its first thread is started here: without one, the run cannot be controlled.
        clock = JobClock()
        loop = ThreadedLoop(clock=clock, threads=parallel_launches(self._config) + _OTHER_CALLS + len(self._sinks))
        with contextlib.closing(loop):
            return self._run_on(loop, clock, compute, ranking, on_progress, started)

    def _ship(self) -> None:
        """Upload what the instances download."""
        if self._program is None:
            return
        new = set(self._program.upload())
        for piece in self._program.bundle.pieces:
            size = format_size(piece.size)
            log.info(f"{'Uploaded' if piece.name in new else 'Found'} {piece.name} ({size}) in {self._program.staging}")
        record_bundle(self._program, self.job_id)

    def _run_on(
        self,
        loop: ThreadedLoop,
        clock: JobClock,
        compute: Compute,
        ranking: Ranking,
        on_progress: Callable[[Progress], None],
        started: float,
    ) -> JobResult:
        resources = self._setup.resume() if self._request.resume else self._setup.create()
        self._is_started = True
        store, tasks, events = resources.store, resources.tasks, resources.events
        write_secrets(self._config, self.job_id, self._secrets)
        if self._program is not None and self._program.upload_secrets(self.job_id):
            log.info(f"Uploaded the secrets, encrypted, to {self._program.staging}")
        wait_for_store(lambda: clock.resume(store))
        if self._request.retry:
            wait_for_store(lambda: store.reopen_tasks(self._request.retry))
        wait_for_store(lambda: store.set_state(JobState.RUNNING, clock.now()))
        wait_for_store(lambda: store.begin_run(clock.now()))
        note_zones(compute, store.instances())
        opened = RunResources(store=store, compute=compute, tasks=tasks, events=events)
        try:
            result = self._drive(loop, opened, ranking.offers, on_progress)
            if result.outcome is JobPhase.COMPLETE:
                wait_for_store(store.check_file)
                log.info(f"Job {'finished' if store.summary().failed else 'complete'}, deleting queues")
                tasks.delete()
                events.delete()
                self._setup.delete_former_queues(store, is_last=True)
                wait_for_store(lambda: store.set_state(JobState.FINISHED, clock.now()))
            elapsed = timedelta(seconds=time.monotonic() - started)
            return attrs.evolve(result, statistics=store.statistics(clock.now()), elapsed=elapsed)
        finally:
            with contextlib.suppress(StoreError):
                store.end_run(clock.now())

    @property
    def is_running(self) -> bool:
        """Whether a controller can be stopped; before, an interrupt ends the setup, which can be resumed."""
        return self._running is not None

    @property
    def ending(self) -> JobPhase | None:
        """How the run is ending; None before its end has begun. Safe in any thread."""
        phase = self._running[0].phase if self._running is not None else JobPhase.RUNNING
        if phase is JobPhase.RUNNING and self._is_failing:
            return JobPhase.ABORTED
        return None if phase is JobPhase.RUNNING else phase

    def stop(self, mode: StopMode, *, then: Callable[[bool], None] = lambda stopped: None) -> None:
        """Request the end of the run. Safe in any thread and in a signal handler; does nothing unless it `is_running`.

        Args:
            then: Called on the loop's thread with whether the request changed how the run ends.
        """
        running = self._running
        if running is not None:
            controller, loop = running
            loop.post(lambda: then(controller.stop(mode)))

    def instances_left(self) -> tuple[str, ...]:
        """Return the ids of the instances that are not known to be terminated. Safe in any thread."""
        running = self._running
        return running[0].instances_left() if running is not None else ()

    def _drive(
        self,
        loop: ThreadedLoop,
        opened: RunResources,
        offers: Sequence[RankedOffer],
        on_progress: Callable[[Progress], None],
    ) -> JobResult:
        store = opened.store
        sinks = SinkDispatcher(loop, self._sinks)
        limit = self._config.limits().max_total_cost

        def report(progress: Progress) -> None:
            # An aid for `status` only: what it cannot write must not end the run.
            with contextlib.suppress(StoreError):
                store.record_alive(progress.now)
            if sinks.takes_progress:
                sinks.send_progress(progress.for_sinks(max_total_cost=limit))
            on_progress(progress)

        requests = LaunchRequestBuilder(
            self._config,
            self._program or self._script,
            job_id=self.job_id,
            queue_name=store.job.queue_name,
            event_queue_name=store.job.event_queue_name,
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
            requests=requests,
            sinks=sinks,
            on_progress=report,
        )
        self._running = (controller, loop)
        sinks.send_progress(Progress.read(store, loop.now()).for_sinks(max_total_cost=limit))
        if self._request.resume:
            self._resend_events(sinks, store)
        outcome = controller.run()
        last = Progress.read(store, loop.now())
        sinks.send_progress(last.for_sinks(phase=outcome, reason=controller.reason, max_total_cost=limit))
        sinks.finish(_SINK_TIMEOUT)
        if controller.error is not None:
            raise controller.error
        return JobResult(
            outcome=outcome,
            statistics=store.statistics(loop.now()),
            elapsed=timedelta(0),
            reason=controller.reason,
            bad_input=controller.bad_input,
            console_log=controller.console_log,
            all_gone=controller.all_gone,
            dropped_events=sinks.dropped(),
        )

    def _open_sinks(self) -> dict[str, EventSink]:
        names = list(self._config.event_sinks)
        if self._request.output_file is not None and "jsonl" not in names:
            names.append("jsonl")
        context = EventSinkContext(
            job_id=self.job_id, output_file=self._request.output_file, base_dir=self._config.folder
        )
        return {
            name: self._stack.enter_context(
                self._registry.event_sink(name).open(self._config.settings_for("event_sink", name), context)
            )
            for name in names
        }

    def _resend_events(self, sinks: SinkDispatcher, store: Store) -> None:
        """Send the latest events again to idempotent sinks: a killed controller may not have sent them."""
        names = {name for name in self._sinks if self._registry.event_sink(name).idempotent}
        if not names:
            return
        known = sum(store.summary().events.values())
        events = iterate_events(store.path, after=max(0, known - _LATEST_EVENTS))
        while batch := list(itertools.islice(events, 1000)):
            sinks.write(batch, only=names)
