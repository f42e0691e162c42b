"""The controller: observe, decide, act, every scaling interval and whenever something calls for it sooner.

It holds no policy of its own (`decide` does) and makes no blocking call itself (the loop does).
Invariants, each with a test:

1. The store is only changed on the loop's thread.
2. Whatever ends the run, every instance is terminated and a complete listing has confirmed it, unless the user
   asked to leave them running. An end that leaves them can become one that terminates them, never the reverse.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from cloud_tasks.controller.autoscaler.decide import decide
from cloud_tasks.controller.autoscaler.fleet import Fleet
from cloud_tasks.controller.autoscaler.observe import StateBuilder
from cloud_tasks.controller.autoscaler.state import (
    Abort,
    Action,
    Drain,
    Finish,
    ForgetIntent,
    Launch,
    MarkEnded,
    Policy,
    Requeue,
    Terminate,
    Warn,
)
from cloud_tasks.controller.event_loop import Loop
from cloud_tasks.controller.messaging.enqueuer import TaskEnqueuer
from cloud_tasks.controller.messaging.event_collector import EventCollector
from cloud_tasks.controller.messaging.progress import Progress
from cloud_tasks.model import Instance, InstanceState, JobPhase, Money
from cloud_tasks.plugin import Depth, Queue
from cloud_tasks.selection import RankedOffer
from cloud_tasks.store import Store

__all__ = ["Controller", "StopMode"]

log = structlog.get_logger()

_SETTLE = timedelta(seconds=2)
"""Between two listings while the last instances go."""
_FINISH_PATIENCE = timedelta(minutes=10)


class StopMode(enum.Enum):
    """What becomes of the instances when the user ends a run."""

    TERMINATE = "terminate"
    LEAVE = "leave"
    """They keep running for ``run --continue``."""


class Controller:
    """One run of one job.

    Args:
        offers: Ranked, best first.
        interval: Between two looks.
        on_progress: Called after each look.
    """

    def __init__(
        self,
        loop: Loop,
        store: Store,
        *,
        job_id: str,
        task_queue: Queue,
        feeder: TaskEnqueuer,
        collector: EventCollector,
        fleet: Fleet,
        offers: Sequence[RankedOffer],
        policy: Policy,
        interval: timedelta,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self._loop = loop
        self._store = store
        self._job_id = job_id
        self._queue = task_queue
        self._feeder = feeder
        self._collector = collector
        self._fleet = fleet
        self._offers = tuple(offers)
        self._policy = policy
        self._interval = interval
        self._on_progress = on_progress
        self._told: set[str] = set()
        self._looking = False
        self._look_again = False
        self._last: tuple[Sequence[Instance] | None, Depth | None] | None = None
        """The last listing, and the depth of the task queue then."""
        self._observer = StateBuilder(
            loop, store, feeder=feeder, collector=collector, fleet=fleet, offers=self._offers, policy=policy
        )
        self._finish_deadline: datetime | None = None
        self._listed_at_end: tuple[str, ...] = ()
        self._instances_settled = False
        self.ending: JobPhase | None = None
        """How the run is ending; None before its end has begun."""
        self.outcome = JobPhase.RUNNING
        self.reason = ""
        """Why it was aborted, in one line."""
        self.bad_input = False
        """Whether it was aborted because of the configuration or the startup script."""
        self.console_log = ""
        """Of the instance that tells most, when it was aborted."""
        self.all_gone = False
        """Whether a complete listing confirmed that nothing of this job is left."""

    # -- the run ---------------------------------------------------------------------------------------------------

    def run(self) -> JobPhase:
        """Run until the job has ended, one way or another, and its instances with it."""
        self._collector.start()
        self._feeder.start()
        self._loop.later(timedelta(0), self._tick)
        self._loop.run(lambda: self.outcome is not JobPhase.RUNNING)
        return self.outcome

    def noticed_events(self) -> None:
        """Called after events were committed: an ending job is not kept waiting for the next look."""
        if self.ending is None and self._feeder.done and self._store.remaining() == 0:
            self._begin_end(JobPhase.COMPLETE)

    def refused(self) -> None:
        """Decide again from the last listing: only the block of the refused launch is new.

        While a listing is awaited, the decision that follows it has the block.
        """
        if self._last is None or self._looking or self.ending is not None:
            return
        listing, depth = self._last
        actions = decide(self._observer.observe(listing, depth, is_new=False))
        _tell_of_launches([action for action in actions if isinstance(action, Launch)])
        for action in actions:
            if isinstance(action, (Launch, Warn)):
                self._act(action)

    def stop(self, mode: StopMode) -> bool:
        """End the run as the user asks; return whether that changed anything: False where it is ending already."""
        if self.ending is None:
            self._begin_end(JobPhase.LEFT if mode is StopMode.LEAVE else JobPhase.STOPPED)
        elif mode is StopMode.TERMINATE and self.ending is JobPhase.LEFT and self.outcome is JobPhase.RUNNING:
            self.ending = JobPhase.STOPPED
            self._instances_settled = False
            self._terminate_instances()
        else:
            return False
        return True

    def instances_left(self) -> tuple[str, ...]:
        """Return the ids of the instances that are not known to be terminated. Safe in any thread."""
        if self.all_gone:
            return ()
        recorded = [
            record.instance_id or f"{record.client_token} (launch not answered)"
            for record in self._store.instances()
            if record.ended_at is None
        ]
        return tuple(dict.fromkeys((*recorded, *self._listed_at_end)))

    def broken(self, reason: str) -> None:
        """End the run because it cannot go on."""
        self._abort(Abort(reason=reason, show_console=False))

    # -- observe ---------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.ending is None:
            self.look()
            self._loop.later(self._interval, self._tick)

    def look(self) -> None:
        """Observe, decide, act, now; one look at a time."""
        if self.ending is not None:
            return
        if self._looking:
            self._look_again = True
            return
        self._looking = True
        self._observer.asking()
        log.debug("Checking if scaling is needed...")
        self._fleet.list(self._job_id, self._listed)

    def _is_ending(self) -> bool:
        return self.ending is not None

    def _listed(self, listing: Sequence[Instance] | None) -> None:
        def failed(error: Exception) -> None:
            log.debug(f"The depth of the queue is unknown: {error}")
            self._observed(listing, None)

        self._loop.call(self._queue.depth, lambda depth: self._observed(listing, depth), failed)

    def _observed(self, listing: Sequence[Instance] | None, depth: Depth | None) -> None:
        self._looking = False
        if self.ending is not None:
            return
        is_first, self._last = self._last is None, (listing, depth)
        observation = self._observer.observe(listing, depth)
        if observation.fleet == () and is_first:
            log.info("No running instances found")
        actions = decide(observation)
        _tell_of_launches([action for action in actions if isinstance(action, Launch)])
        for action in actions:
            self._act(action)
            if self._is_ending():
                return
        self._on_progress(Progress.read(self._store, observation.now, depth=depth))
        if self._look_again:
            self._look_again = False
            self.look()

    # -- act -------------------------------------------------------------------------------------------------------

    def _act(self, action: Action) -> None:
        match action:
            case Launch(ranked=ranked, count=count, alternatives=alternatives):
                self._fleet.launch(ranked, count, alternatives)
            case Terminate(instance_id=instance_id, reason=reason):
                self._fleet.terminate(instance_id, reason)
            case MarkEnded(instance_id=instance_id, reason=reason):
                self._fleet.ended(instance_id, self._loop.now(), reason)
                self._look_again = True
            case ForgetIntent(client_token=client_token, reason=reason):
                self._fleet.forget(client_token, reason)
            case Requeue(reason=reason):
                log.warning(f"Sending the remaining tasks again: {reason}")
                self._store.reset_for_requeue()
                self._observer.requeued()
                self._feeder.start()
            case Drain(reason=reason):
                log.warning(f"No more tasks are given out: {reason}")
                self._drain()
            case Warn(key=key, message=message):
                if key not in self._told:
                    self._told.add(key)
                    log.warning(message)
                return
            case Finish():
                self._begin_end(JobPhase.COMPLETE)
            case Abort():
                self._abort(action)
        self._told.clear()

    def _drain(self) -> None:
        """Take back what no worker has begun. The store knows of it first: the next run sends it all again."""
        self._observer.draining = True
        self._feeder.stop()
        self._store.withdraw()

        def failed(error: Exception) -> None:
            log.warning(f"The task queue could not be emptied and will be tried again: {error}")
            self._loop.later(self._interval, empty)

        def empty() -> None:
            if self.ending is None:
                self._loop.call(self._queue.purge, lambda _: None, failed)

        empty()

    def _abort(self, abort: Abort) -> None:
        if self.ending is not None:
            return
        self.reason, self.bad_input = abort.reason, abort.bad_input
        log.error(abort.reason)
        candidates = [record.instance_id for record in self._store.instances() if record.instance_id is not None]
        source = abort.console_of or (candidates[-1] if candidates else None)
        if source is None or not abort.show_console:
            self._begin_end(JobPhase.ABORTED)
            return
        self.ending = JobPhase.ABORTED
        self._fleet.cancel_waiting()

        def fetched(text: str) -> None:
            self.console_log = text
            self._terminate_instances()

        self._fleet.console_log(source, fetched)

    # -- end -------------------------------------------------------------------------------------------------------

    def _begin_end(self, outcome: JobPhase) -> None:
        if self.ending is not None:
            return
        self.ending = outcome
        self._fleet.cancel_waiting()
        if outcome is JobPhase.LEFT:
            self._settled()
        else:
            self._terminate_instances()

    def _terminate_instances(self) -> None:
        self._finish_deadline = self._loop.now() + _FINISH_PATIENCE
        self._sweep()

    def _sweep(self) -> None:
        self._observer.asking()
        self._fleet.list(self._job_id, self._swept)

    def _swept(self, listing: Sequence[Instance] | None) -> None:
        """Terminate what is listed, and come back until nothing is."""
        assert self._finish_deadline is not None
        if listing is not None:
            self._observer.record(listing)
        left = [i.instance_id for i in listing or () if i.state is not InstanceState.TERMINATED]
        if listing is not None:
            self._listed_at_end = tuple(left)
        alive = [record for record in self._store.instances() if record.ended_at is None]
        hidden = any(self._observer.may_be_unlisted(record) for record in alive)
        if listing is not None and not left and not hidden and not self._fleet.busy:
            self._mark_all_ended()
            self.all_gone = True
            self._settled()
        elif self._loop.now() > self._finish_deadline:
            log.error(f"{len(left) or 'Unknown'} instances could not be terminated; see `cloud-tasks cleanup`")
            self._settled()
        else:
            pause = timedelta(0) if left else _SETTLE
            self._fleet.terminate_all(left, "the job is over", then=lambda: self._loop.later(pause, self._sweep))

    def _mark_all_ended(self) -> None:
        for record in self._store.instances():
            if record.ended_at is None:
                if record.instance_id is None:
                    self._store.record_launch_failed(record.client_token, "launch never answered, instance never seen")
                else:
                    self._fleet.ended(record.instance_id, self._loop.now(), "the job is over")

    def _settled(self) -> None:
        """The instances are terminated, or left: collect the last events, then the run is over."""
        self._instances_settled = True
        if self._collector.stopped:
            self._over()
        else:
            self._collector.stop(self._over)

    def _over(self) -> None:
        if self._instances_settled and self.ending is not None:
            self.outcome = self.ending


def _tell_of_launches(launches: Sequence[Launch]) -> None:
    """Say how many instances are asked for, in however many zones, and what they add to the price."""
    count = sum(launch.count for launch in launches)
    if count:
        price = sum((launch.ranked.offer.price_per_hour * launch.count for launch in launches), Money.zero())
        plural = "" if count == 1 else "s"
        log.info(f"Starting {count} new instance{plural} for an incremental price of {price}/hour")
