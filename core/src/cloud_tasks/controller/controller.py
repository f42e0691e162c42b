"""The controller of one run: starts its parts, reconciles at every scaling interval, and ends the run.

The phase of the run is `RUNNING` until its end begins: all tasks are finished, the user stops it, or continuing is
pointless. The end then takes the same course whatever caused it (`Controller._end`).

Invariants, each with a test:

1. The store is changed on the loop's thread only.
2. However the run ends, every instance is terminated and a complete listing has confirmed it, unless the user chose to
   leave the instances running. An end that leaves them can become one that terminates them, never the reverse. An
   error that no part of the controller handles ends the run in the same way.
3. While the store is unavailable the run continues: instances are terminated, limits and an interrupt obeyed.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from cloud_tasks.controller.autoscaler.actions import Abort
from cloud_tasks.controller.autoscaler.attempt_ends import FAILURES
from cloud_tasks.controller.autoscaler.credentials_watch import CredentialsEnd, CredentialsWatch
from cloud_tasks.controller.autoscaler.fleet import Fleet
from cloud_tasks.controller.autoscaler.fleet_termination import FleetTermination
from cloud_tasks.controller.autoscaler.observe import StateBuilder
from cloud_tasks.controller.autoscaler.price_refresh import PriceRefresh, RequestPrices
from cloud_tasks.controller.autoscaler.reconciler import Reconciler
from cloud_tasks.controller.autoscaler.state import Policy
from cloud_tasks.controller.deferred_writes import DeferredWrites
from cloud_tasks.controller.event_loop import Loop, Pause, sleep, start
from cloud_tasks.controller.launch.console import telling_line
from cloud_tasks.controller.launch.start_steps import describe_start
from cloud_tasks.controller.messaging.enqueuer import TaskEnqueuer
from cloud_tasks.controller.messaging.event_collector import EventCollector
from cloud_tasks.controller.messaging.progress import Progress
from cloud_tasks.controller.messaging.queue_recovery import QueueRecovery
from cloud_tasks.escape import terminal_line
from cloud_tasks.model import Event, EventType, JobPhase
from cloud_tasks.plugin import Queue
from cloud_tasks.selection import RankedOffer
from cloud_tasks.store import Store

__all__ = ["Controller", "StopMode"]

log = structlog.get_logger()

_STORE_TIMEOUT = timedelta(seconds=10)
"""Maximum time for which the end of an incomplete run waits for an unavailable store; `run --continue` catches up."""
_BACKLOG = timedelta(minutes=1)
"""Time after which the events that waited in the queue for this run, or for the end of an outage, have been read."""
_MAX_ERRORS_OF_END = 20


class StopMode(enum.Enum):
    """Treatment of the instances when the user ends a run."""

    TERMINATE = "terminate"
    LEAVE = "leave"
    """The instances keep running for ``run --continue``."""


class Controller:
    """One run of one job.

    Args:
        make_enqueuer: Makes the task enqueuer, given its callback for a task that cannot be sent.
        make_collector: Makes the event collector, given its callback for committed events.
        make_fleet: Makes the fleet, given its callback for a refused launch.
        offers: Ranked, best first.
        interval: Time between two reconciliation passes.
        watch_interval: Time between two checks for ended instances (`ComputeTraits.watch_interval`); None: no checks.
        on_events: Called with each batch of events after it was committed.
        on_progress: Called after each reconciliation pass.
        event_queue: Created again, with the task queue, when it is deleted; None: deleted queues are waited for.
        writes: Changes to the store, shared with the parts.
        on_error: Treatment of the instances after an error that no part handles.
        request_prices: Returns the current prices.
        price_interval: Time between two requests for prices; None: they do not change.
        credentials_end: Returns the end of the credentials; None if it is not known.
    """

    def __init__(
        self,
        loop: Loop,
        store: Store,
        *,
        task_queue: Queue,
        make_enqueuer: Callable[[Callable[[str], None]], TaskEnqueuer],
        make_collector: Callable[[Callable[[Sequence[Event]], None]], EventCollector],
        make_fleet: Callable[[Callable[[], None]], Fleet],
        offers: Sequence[RankedOffer],
        policy: Policy,
        interval: timedelta,
        watch_interval: timedelta | None = None,
        on_events: Callable[[Sequence[Event]], None] = lambda _: None,
        on_progress: Callable[[Progress], None] = lambda _: None,
        event_queue: Queue | None = None,
        writes: DeferredWrites | None = None,
        on_error: StopMode = StopMode.TERMINATE,
        request_prices: RequestPrices | None = None,
        price_interval: timedelta | None = None,
        credentials_end: Callable[[], CredentialsEnd | None] | None = None,
    ) -> None:
        self._loop = loop
        self._credentials = None if credentials_end is None else CredentialsWatch(loop, credentials_end)
        self._store = store
        self._interval = interval
        self._watch_interval = watch_interval
        self._on_events = on_events
        self._on_error = on_error
        self._writes = writes or DeferredWrites(loop, store)
        self._enqueuer = make_enqueuer(self._abort_for_queue)
        self._collector = make_collector(self._events_committed)
        self._collector.on_refused = self._abort_for_queue
        self._fleet = make_fleet(lambda: self._reconciler.launch_refused())
        self._states = StateBuilder(
            loop,
            store,
            enqueuer=self._enqueuer,
            collector=self._collector,
            fleet=self._fleet,
            offers=tuple(offers),
            policy=policy,
            writes=self._writes,
        )
        self._reconciler = Reconciler(
            loop,
            store,
            task_queue=task_queue,
            enqueuer=self._enqueuer,
            fleet=self._fleet,
            states=self._states,
            writes=self._writes,
            retry_interval=interval,
            is_running=lambda: self.phase is JobPhase.RUNNING,
            on_complete=lambda: self._begin_end(JobPhase.COMPLETE),
            on_abort=self._abort,
            on_progress=on_progress,
            on_queue_gone=lambda: self._collector.on_gone(),
        )
        if event_queue is not None:
            self._recover_deleted_queues(task_queue, event_queue)
        self._prices: PriceRefresh | None = None
        if request_prices is not None and price_interval is not None:
            self._prices = PriceRefresh(
                loop,
                store,
                offers=offers,
                request=request_prices,
                interval=price_interval,
                writes=self._writes,
                on_offers=self._states.replace_offers,
            )
        self._termination = FleetTermination(loop, store, fleet=self._fleet, states=self._states)
        self.phase = JobPhase.RUNNING
        """`RUNNING` until the end of the run begins, then how the run ends."""
        self.is_over = False
        """Whether the end of the run is complete."""
        self.reason = ""
        """Why the run was aborted, in one line."""
        self.bad_input = False
        """Whether the run was aborted because of the configuration or the startup script."""
        self.console_log = ""
        """Console log of the instance that explains an abort best."""
        self.error: Exception | None = None
        """The error that ended the run, if one did that no part handles."""

    def _recover_deleted_queues(self, task_queue: Queue, event_queue: Queue) -> None:
        recovery = QueueRecovery(
            self._loop,
            self._store,
            tasks=task_queue,
            events=event_queue,
            writes=self._writes,
            is_running=lambda: self.phase is JobPhase.RUNNING,
            last_answers=lambda: (self._enqueuer.last_accepted, self._collector.last_answer),
            on_requeued=self._requeued,
            on_usable=self._resume_sending,
            on_broken=self._abort_for_queue,
        )
        self._collector.on_gone = self._enqueuer.on_gone = recovery.request

    @property
    def all_gone(self) -> bool:
        """Whether a complete listing confirmed that no instance of the job is left."""
        return self._termination.confirmed

    def run(self) -> JobPhase:
        """Run until the run and its instances have ended; return how. Raises an error that prevents the end as well."""
        try:
            self._collector.start()
            self._enqueuer.start()
            self._loop.later(timedelta(0), lambda: start(self._reconcile_periodically()))
            if self._prices is not None:
                start(self._prices.run(lambda: self.phase is JobPhase.RUNNING))
            if self._credentials is not None:
                start(self._credentials.run(lambda: self.phase is JobPhase.RUNNING))
            if self._watch_interval is not None:
                start(self._watch_instances(self._watch_interval))
            self._loop.run(lambda: self.is_over)
        except Exception as error:
            self._end_after(error)
        return self.phase

    def _end_after(self, error: Exception) -> None:
        """End the run after an error, which callbacks of the loop may raise again."""
        self.error = error
        leave = self.phase is JobPhase.LEFT or (self.phase is JobPhase.RUNNING and self._on_error is StopMode.LEAVE)
        done = "leaving the instances running" if leave else "terminating all instances"
        log.error(f"The run failed, {done}: {type(error).__name__}: {error}")
        for _ in range(_MAX_ERRORS_OF_END):
            try:
                start(self._end(JobPhase.LEFT if leave else JobPhase.ABORTED, collect=False))
                self._loop.run(lambda: self.is_over)
            except Exception as another:
                log.debug(f"Error during the end of the run: {type(another).__name__}: {another}")
            else:
                return
        raise error

    async def _reconcile_periodically(self) -> None:
        while self.phase is JobPhase.RUNNING:
            self._reconciler.check()
            await sleep(self._loop, self._interval)

    async def _watch_instances(self, interval: timedelta) -> None:
        """Reconcile as soon as an instance has ended."""
        while True:
            await sleep(self._loop, interval)
            if self.phase is not JobPhase.RUNNING:
                return
            if await self._fleet.has_new_end():
                self._reconciler.request()

    def stop(self, mode: StopMode) -> bool:
        """End the run as the user requests; return False if it is ending already and nothing changes."""
        if self.phase is JobPhase.RUNNING:
            return self._begin_end(JobPhase.LEFT if mode is StopMode.LEAVE else JobPhase.STOPPED)
        if self.phase is JobPhase.LEFT and mode is StopMode.TERMINATE and not self.is_over:
            start(self._end(JobPhase.STOPPED))
            return True
        return False

    def instances_left(self) -> tuple[str, ...]:
        """Return the ids of the instances that are not known to be terminated. Safe in any thread."""
        return self._termination.instances_left()

    # -- reasons to end the run --------------------------------------------------------------------------------------

    def _events_committed(self, events: Sequence[Event]) -> None:
        """Pass events on; end a job whose last task they finish without waiting for the next pass."""
        arrived, read_since = self._loop.now(), self._collector.events_read_since
        is_current = read_since is not None and arrived - read_since > _BACKLOG
        self._states.heartbeats.note(events, arrived, is_current=is_current)
        self._states.note_tasks(events)
        self._on_events(events)
        self._note_workers(events)
        self._compare_instances(events)
        if self.phase is not JobPhase.RUNNING or not self._enqueuer.done or self._store.remaining():
            return
        if self._states.has_failing_instance:
            self._reconciler.request()
        else:
            self._begin_end(JobPhase.COMPLETE)

    def _note_workers(self, events: Sequence[Event]) -> None:
        for event in events:
            name = event.instance_id or event.hostname
            if event.event_type is EventType.WORKER_STARTED and (steps := describe_start(event)):
                log.info(f"Instance '{terminal_line(name)}' started: {steps}")
            if event.event_type is EventType.WORKER_STOPPED and event.instance_id:
                self._states.stop_reasons[event.instance_id] = terminal_line(str(event.details.get("reason") or ""))
            if event.event_type is not EventType.FATAL_EXCEPTION:
                continue
            reason = terminal_line(str(event.details.get("exception") or "unknown error"))
            if event.details.get("start_step"):
                self._states.note_start_failure(terminal_line(name), reason)
                self._reconciler.request()
            elif name not in self._states.worker_errors:
                self._states.worker_errors[name] = reason
                log.warning(f"The worker of instance '{terminal_line(name)}' ended with an error: {reason}")

    def _compare_instances(self, events: Sequence[Event]) -> None:
        """Reconcile at once when an instance turns out to fail what others complete: it takes tasks fast."""
        if not self._states.attempt_ends.add(events, self._loop.now()) or self.phase is not JobPhase.RUNNING:
            return
        late = {e.instance_id for e in events if e.event_type in FAILURES} & self._states.discarded
        for instance_id in late:
            if instance_id is not None:
                self._reconciler.rerun_failed(instance_id)
        if self._states.has_failing_instance:
            self._reconciler.request()

    def _requeued(self) -> None:
        self._states.requeued()
        self._enqueuer.start()

    def _resume_sending(self) -> None:
        """Send what the task queue has not accepted, unless all tasks were sent."""
        if not self._enqueuer.done:
            self._enqueuer.start()

    def _abort_for_queue(self, reason: str) -> None:
        self._abort(Abort(reason=reason, show_console=False))

    def _abort(self, abort: Abort) -> None:
        if self.phase is not JobPhase.RUNNING:
            return
        self.reason, self.bad_input = abort.reason, abort.bad_input
        launched = [record.instance_id for record in self._store.instances() if record.instance_id is not None]
        source = abort.console_of or (launched[-1] if launched else None)
        self._begin_end(JobPhase.ABORTED, console_of=source if abort.show_console else None)

    def _begin_end(self, phase: JobPhase, *, console_of: str | None = None) -> bool:
        if self.phase is not JobPhase.RUNNING:
            return False
        start(self._end(phase, console_of=console_of))
        return True

    # -- the end -----------------------------------------------------------------------------------------------------

    async def _end(self, phase: JobPhase, *, console_of: str | None = None, collect: bool = True) -> None:
        """Terminate the instances, unless they are left, then collect the last events.

        Args:
            console_of: Instance whose console log is fetched before.
            collect: Whether to collect the last events; otherwise they wait in the event queue.
        """
        self.phase = phase
        self._fleet.cancel_waiting()
        if console_of is not None:
            self.console_log = await self._fleet.console_log(console_of)
            line = telling_line(self.console_log)
            self.reason += f"; last output of {console_of}: {line}" if line else "; it printed nothing"
        if phase is JobPhase.ABORTED and self.error is None:
            log.error(self.reason)
        if phase is not JobPhase.LEFT:
            await self._termination.run()
        # A complete job waits for its database: nothing runs any more, and only the database says that it is complete.
        timeout = None if phase is JobPhase.COMPLETE else _STORE_TIMEOUT
        await self._writes.settle(timeout)
        if collect and not self._collector.stopped and not self._writes.blocked:
            await Pause[None](lambda then, failed: self._collector.stop(lambda: then(None)))
            await self._writes.settle(timeout)
        # A second request may have turned an end that leaves the instances into one that terminates them.
        if self.phase is phase:
            self.is_over = True
