"""Reconciliation passes: list the instances, build the observation, decide, and carry out the actions.

Invariants, each with a test:

1. Passes do not overlap; a pass requested meanwhile follows the current one. While a pass waits for the provider,
   limits are decided by the records at every interval.
2. A refused launch leads to another decision from the last listing, without a new one.
3. No decision, and no launch, follows from a listing that was requested long ago: this machine was asleep since.
4. A warning is logged once for as long as its cause lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from cloud_tasks.controller.autoscaler.actions import (
    Abort,
    Action,
    Discard,
    Drain,
    Finish,
    ForgetIntent,
    Launch,
    MarkEnded,
    Requeue,
    Terminate,
    Warn,
)
from cloud_tasks.controller.autoscaler.decide import decide
from cloud_tasks.controller.autoscaler.fleet import Fleet
from cloud_tasks.controller.autoscaler.observe import StateBuilder
from cloud_tasks.controller.deferred_writes import DeferredWrites
from cloud_tasks.controller.event_loop import Loop, call, sleep, start
from cloud_tasks.controller.launch.console import last_lines, start_failure
from cloud_tasks.controller.messaging.enqueuer import TaskEnqueuer
from cloud_tasks.controller.messaging.progress import Progress
from cloud_tasks.controller.timed_calls import TimedCalls
from cloud_tasks.errors import NotFoundError, StoreUnavailableError
from cloud_tasks.model import Instance, Money
from cloud_tasks.plugin import Depth, Queue
from cloud_tasks.quantities import format_span
from cloud_tasks.store import Store

__all__ = ["MAX_ABANDONED_DEPTHS", "Reconciler"]

log = structlog.get_logger()

_DEPTH_TIMEOUT = timedelta(minutes=1)
MAX_ABANDONED_DEPTHS = 2
"""Maximum number of threads that calls without an answer occupy."""
_MAX_AGE = timedelta(minutes=10)
"""Age from which a listing does not show the present. The time limits of the calls of one pass are shorter together."""
_SHOWN_CONSOLES = 3
"""Instances without a heartbeat whose last output is logged; that of others is most likely the same."""


class Reconciler:
    """Carries out the decisions of one run.

    Args:
        retry_interval: Time between two attempts to purge the task queue.
        is_running: Return whether the end of the run has not begun.
        on_complete: Called when every task is finished.
        on_abort: Called when continuing is pointless.
        on_progress: Called after each pass.
        on_queue_gone: Called when the task queue does not exist.
    """

    def __init__(
        self,
        loop: Loop,
        store: Store,
        *,
        task_queue: Queue,
        enqueuer: TaskEnqueuer,
        fleet: Fleet,
        states: StateBuilder,
        writes: DeferredWrites,
        retry_interval: timedelta,
        is_running: Callable[[], bool],
        on_complete: Callable[[], object],
        on_abort: Callable[[Abort], None],
        on_progress: Callable[[Progress], None],
        on_queue_gone: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._store = store
        self._queue = task_queue
        self._enqueuer = enqueuer
        self._fleet = fleet
        self._states = states
        self._writes = writes
        self._retry_interval = retry_interval
        self._is_running = is_running
        self._on_complete = on_complete
        self._on_abort = on_abort
        self._on_progress = on_progress
        self._on_queue_gone = on_queue_gone
        self._depths = TimedCalls(loop, timeout=_DEPTH_TIMEOUT, max_abandoned=MAX_ABANDONED_DEPTHS)
        self._active = False
        self._requested = False
        self._last: tuple[Sequence[Instance] | None, Depth | None] | None = None
        """Listing and depth of the task queue of the last pass."""
        self._listed_at = loop.now()
        """Time at which the listing of the last pass was requested."""
        self._warned: set[str] = set()

    def request(self) -> None:
        """Start a pass now, or after the current one."""
        self._requested = True
        if not self._active:
            start(self._run_passes())

    def check(self) -> None:
        """Start a pass; decide by the records where an earlier one still waits for the provider."""
        if self._active and self._is_running():
            try:
                self._decide(None, None, is_new=False)
            except StoreUnavailableError as error:
                self._writes.block(error)
        self.request()

    async def _run_passes(self) -> None:
        self._active = True
        while self._requested and self._is_running():
            self._requested = False
            await self._reconcile()
        self._active = False

    async def _reconcile(self) -> None:
        """Run one pass."""
        self._states.listing_requested()
        self._listed_at = self._loop.now()
        log.debug("Checking if scaling is needed...")
        listing = await self._list()
        depth = await self._depth()
        if not self._is_running():
            return
        if self._is_outdated():
            self._requested = True
            return
        is_first, self._last = self._last is None, (listing, depth)
        try:
            self._decide(listing, depth, is_first=is_first)
        except StoreUnavailableError as error:
            # The next pass decides again.
            self._writes.block(error)

    def _is_outdated(self) -> bool:
        return self._loop.now() - self._listed_at > _MAX_AGE

    async def _list(self) -> Sequence[Instance] | None:
        """Return the complete listing, with the ended instances that the provider still shows; None if it failed."""
        listing = await self._fleet.list()
        missing = () if listing is None else self._states.missing(listing)
        return (*listing, *await self._fleet.find_ended(missing)) if listing is not None and missing else listing

    def _decide(
        self,
        listing: Sequence[Instance] | None,
        depth: Depth | None,
        *,
        is_first: bool = False,
        is_new: bool = True,
    ) -> None:
        observation = self._states.observe(listing, depth, is_new=is_new)
        if observation.fleet == () and is_first:
            log.info("No running instances found")
        actions = decide(observation)
        _log_launches(actions)
        for action in actions:
            self._act(action)
            if not self._is_running():
                return
        if listing is not None:
            self._fleet.confirm()
        self._forget_warnings(actions)
        self._on_progress(Progress.read(self._store, observation.now, depth=depth))

    async def _depth(self) -> Depth | None:
        try:
            depth = await self._depths.call(self._queue.depth)
        except Exception as error:
            log.debug(f"Depth of the task queue unknown: {error}")
            if isinstance(error, NotFoundError):
                self._on_queue_gone()
            # A depth that was never read may lack a permission that no task needs.
            elif self._states.depth_refusal.has_answered and (reason := self._states.depth_refusal.failed(error)):
                self._on_abort(Abort(reason=reason, show_console=False))
            return None
        self._states.depth_refusal.answered()
        return depth

    def launch_refused(self) -> None:
        """Decide again from the last listing: only the block of the refused launch is new.

        During a pass, the decision that follows the listing has the block.
        """
        if self._last is None or self._active or not self._is_running():
            return
        if self._is_outdated():
            self.request()
            return
        listing, depth = self._last
        actions = decide(self._states.observe(listing, depth, is_new=False))
        _log_launches(actions)
        for action in actions:
            if isinstance(action, (Launch, Warn)):
                self._act(action)
        self._forget_warnings([action for action in actions if isinstance(action, (Launch, Warn))])

    def _forget_warnings(self, actions: Sequence[Action]) -> None:
        """Log warnings again whose cause may have ended: something was done, and they were not given with it."""
        if any(not isinstance(action, Warn) for action in actions):
            self._warned &= {action.key for action in actions if isinstance(action, Warn)}

    def _act(self, action: Action) -> None:
        match action:
            case Launch(ranked=ranked, count=count, alternatives=alternatives, lifetime=lifetime):
                self._fleet.launch(ranked, count, alternatives, lifetime=lifetime)
            case Terminate(instance_id=instance_id, reason=reason, has_failed_start=has_failed_start):
                if has_failed_start:
                    self._states.timed_out.add(instance_id)
                # Its console, which may explain why, goes with it.
                is_mute = self._is_without_heartbeat(instance_id)
                self._fleet.terminate(instance_id, reason, before=self._save_console if is_mute else None)
            case MarkEnded() | ForgetIntent() | Requeue() | Drain() | Discard() if self._writes.blocked:
                # Decided again by each pass until it can be recorded.
                return
            case Discard(instance_id=instance_id, reason=reason, is_alive=is_alive):
                self._states.discarded.add(instance_id)
                log.warning(f"Instance {instance_id!r} fails what others complete: {reason}")
                if is_alive:
                    self._fleet.terminate(instance_id, "it fails tasks that others complete")
                self.rerun_failed(instance_id)
            case MarkEnded(instance_id=instance_id, reason=reason, ended_at=ended_at):
                self._fleet.record_ended(instance_id, self._loop.now(), reason, ended_at=ended_at)
                self._requested = True
                if not self._fleet.is_terminated_by_us(instance_id) and self._is_without_heartbeat(instance_id):
                    start(self._save_console(instance_id))
            case ForgetIntent(client_token=client_token, reason=reason):
                self._fleet.forget(client_token, reason)
            case Requeue(reason=reason):
                log.warning(f"Re-enqueueing unfinished tasks: {reason}")
                if not self._writes.attempt(self._store.reset_for_requeue):
                    return
                self._states.requeued()
                self._enqueuer.start()
            case Drain(reason=reason):
                if not self._writes.attempt(self._store.withdraw):
                    return
                log.warning(f"Withdrawing queued tasks: {reason}")
                start(self._drain())
            case Warn(key=key, message=message):
                if key not in self._warned:
                    self._warned.add(key)
                    log.warning(message)
            case Finish():
                self._on_complete()
            case Abort():
                self._on_abort(action)

    def rerun_failed(self, instance_id: str) -> None:
        """Run the tasks again that failed on a discarded instance, and on no other."""
        count = self._store.reopen_failed(instance_id)
        if count:
            log.warning(f"{count:,} failed task{'' if count == 1 else 's'} of instance '{instance_id}' will run again")
            self._enqueuer.start()

    def _is_without_heartbeat(self, instance_id: str) -> bool:
        records = (r for r in self._store.instances() if r.instance_id == instance_id)
        return any(record.last_heartbeat is None and not record.is_pending for record in records)

    async def _save_console(self, instance_id: str) -> None:
        """Save the output of an instance whose worker never sent anything, and log why, or its last lines."""
        if instance_id in self._states.consoles:
            return
        self._states.consoles[instance_id] = console = await self._fleet.console_log(instance_id)
        if reason := start_failure(console):
            self._states.note_start_failure(instance_id, reason)
            return
        lines = last_lines(console)
        if not lines or len(self._states.consoles) > _SHOWN_CONSOLES:
            return
        log.warning(f"Instance '{instance_id}' sent no heartbeat; its last output:")
        for line in lines:
            log.warning(f"  {line}")

    async def _drain(self) -> None:
        """Withdraw the queued tasks, as the store has recorded: the next run sends all unfinished tasks again."""
        self._states.draining = True
        self._enqueuer.stop()
        while self._is_running():
            try:
                await call(self._loop, self._queue.purge)
            except Exception as error:
                log.warning(
                    f"The task queue could not be purged; next attempt in {format_span(self._retry_interval)}: {error}"
                )
                await sleep(self._loop, self._retry_interval)
            else:
                return


def _log_launches(actions: Sequence[Action]) -> None:
    """Log the number of requested instances, in all zones, and what they add to the price."""
    launches = [action for action in actions if isinstance(action, Launch)]
    count = sum(launch.count for launch in launches)
    if count:
        price = sum((launch.ranked.offer.price_per_hour * launch.count for launch in launches), Money.zero())
        plural = "" if count == 1 else "s"
        log.info(f"Starting {count} new instance{plural} for an incremental price of {price}/hour")
