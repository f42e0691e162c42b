"""Calls about the existing instances of one job: listings, terminations, console logs; and the record of their ends.

Invariants, each with a test:

1. A failed or late listing is None, never an empty one.
2. A termination needs the id of its instance only: it waits for no listing, nor for another termination.
3. A call that is not answered holds up nothing else: it is given up, and a termination is then repeated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta

import structlog

from cloud_tasks.controller.autoscaler.refused_scopes import RefusedScopes
from cloud_tasks.controller.deferred_writes import DeferredWrites
from cloud_tasks.controller.event_loop import Loop, sleep, start
from cloud_tasks.controller.timed_calls import CallTimeoutError, TimedCalls
from cloud_tasks.errors import CredentialsError
from cloud_tasks.model import Instance, InstanceState
from cloud_tasks.plugin import Compute
from cloud_tasks.sanitize import clean_text
from cloud_tasks.store import Store

__all__ = ["MAX_ABANDONED_CALLS", "InstanceCalls"]

log = structlog.get_logger()

_LISTING_TIMEOUT = timedelta(minutes=5)
"""Limits hold meanwhile, by the records."""
_TERMINATION_TIMEOUT = timedelta(minutes=3)
"""Time after which a termination is requested again. Some providers answer when the instance is gone."""
_CONSOLE_TIMEOUT = timedelta(minutes=1)
"""The end of a run waits for a console log before it terminates the instance."""
_KEPT_CONSOLE = 16 * 1024
"""Characters of a console log that are saved."""
_ENDED_TIMEOUT = timedelta(seconds=30)
"""Without the times of ended instances, they are booked until now."""
_ABANDONED_LISTINGS, _ABANDONED_TERMINATIONS, _ABANDONED_CONSOLES, _ABANDONED_ENDED = 2, 8, 2, 1
MAX_ABANDONED_CALLS = _ABANDONED_LISTINGS + _ABANDONED_TERMINATIONS + _ABANDONED_CONSOLES + _ABANDONED_ENDED
"""Maximum number of threads that calls without an answer occupy."""


class InstanceCalls:
    """The calls of one run.

    Args:
        writes: Changes to the store.
    """

    def __init__(self, loop: Loop, store: Store, compute: Compute, *, job_id: str, writes: DeferredWrites) -> None:
        self._loop = loop
        self._store = store
        self._compute = compute
        self._job_id = job_id
        self._writes = writes
        self._listings = TimedCalls(loop, timeout=_LISTING_TIMEOUT, max_abandoned=_ABANDONED_LISTINGS)
        self._terminations = TimedCalls(loop, timeout=_TERMINATION_TIMEOUT, max_abandoned=_ABANDONED_TERMINATIONS)
        self._ended = TimedCalls(loop, timeout=_ENDED_TIMEOUT, max_abandoned=_ABANDONED_ENDED)
        self._consoles = TimedCalls(loop, timeout=_CONSOLE_TIMEOUT, max_abandoned=_ABANDONED_CONSOLES)
        self._listing_problem = ""
        self.refused_scopes = RefusedScopes(loop.now)
        self._preparing: set[str] = set()
        """Instances whose termination waits for something."""
        self._terminating: set[str] = set()
        self._reasons: dict[str, str] = {}
        self._noticed: set[str] = set()
        """Instances whose end `has_new_end` has reported."""

    async def list(self) -> Sequence[Instance] | None:
        """Return the complete listing of the job's instances; None if it failed, or takes too long."""
        try:
            listing = await self._listings.call(lambda: self._compute.instances(self._job_id))
        except Exception as error:
            self._note_listing_problem(str(error))
            if isinstance(error, CredentialsError):
                self.refused_scopes.credentials_refused(error)
            return None
        self._note_listing_problem("")
        self.refused_scopes.credentials_accepted()
        return listing

    async def find_ended(self, missing: Collection[str]) -> Sequence[Instance]:
        """Return the terminated instances that the provider still lists, with their times; none if the call fails.

        Args:
            missing: Client tokens of the launches to look for.
        """
        try:
            found = await self._ended.call(lambda: self._compute.instances(self._job_id, include_terminated=True))
        except Exception as error:
            log.debug(f"Terminated instances could not be listed: {error}")
            return ()
        return [i for i in found if i.state is InstanceState.TERMINATED and i.client_token in missing]

    def _note_listing_problem(self, problem: str) -> None:
        """Log a problem once for as long as it lasts, and its end."""
        if problem and problem != self._listing_problem:
            log.warning(f"Instances could not be listed: {problem}")
        elif self._listing_problem and not problem:
            log.warning("Instances can be listed again")
        self._listing_problem = problem

    async def has_new_end(self) -> bool:
        """Return whether an instance has ended since the last call; False if the listing failed."""
        known = {r.instance_id for r in self._store.instances() if r.ended_at is None and r.instance_id is not None}
        known -= self._noticed
        if not known:
            return False
        try:
            listing = await self._listings.call(lambda: self._compute.instances(self._job_id))
        except Exception as error:
            log.debug(f"Instances could not be listed: {error}")
            return False
        gone = (InstanceState.STOPPED, InstanceState.TERMINATED)
        ended = known - {instance.instance_id for instance in listing if instance.state not in gone}
        self._noticed |= ended
        return bool(ended)

    def is_terminated_by_us(self, instance_id: str) -> bool:
        """Return whether this run requested the termination of the instance."""
        return instance_id in self._reasons

    def terminate(
        self, instance_id: str, reason: str, *, before: Callable[[str], Awaitable[object]] | None = None
    ) -> None:
        """Start the termination of one instance; its end is recorded when a listing no longer shows it.

        Args:
            before: What to wait for first, once, with the instance's id.
        """
        if instance_id in self._preparing:
            return

        async def request() -> None:
            if before is not None:
                self._preparing.add(instance_id)
                await before(instance_id)
                self._preparing.discard(instance_id)
            await self.terminate_all([instance_id], reason)

        start(request())

    async def terminate_all(self, instance_ids: Sequence[str], reason: str) -> bool:
        """Request the termination of several instances in one call; return False if the call failed."""
        new = [instance_id for instance_id in instance_ids if instance_id not in self._terminating]
        self._terminating.update(new)
        for instance_id in new:
            if self._reasons.get(instance_id) != reason:
                log.info(f"Terminating instance '{instance_id}': {reason}")
            self._reasons[instance_id] = reason
        if not new:
            await sleep(self._loop, timedelta(0))
            return not instance_ids
        # Termination calls of other passes may still fail.
        succeeded = len(new) == len(instance_ids)
        try:
            await self._terminations.call(lambda: self._compute.terminate(new))
        except Exception as error:
            succeeded = False
            show = log.info if isinstance(error, CallTimeoutError) else log.warning
            show(f"Instances could not be terminated ({', '.join(new)}); the call will be repeated: {error}")
        self._terminating.difference_update(new)
        return succeeded

    async def console_log(self, instance_id: str) -> str:
        """Return the console log of an instance, or why it cannot be read. It is saved: it goes with the instance."""
        if (saved := self._store.console(instance_id)) is not None:
            return saved
        try:
            found = await self._consoles.call(lambda: self._compute.console_log(instance_id))
        except Exception as error:
            return f"(not available: {error})"
        kept = clean_text(found[-_KEPT_CONSOLE:])
        if kept.strip():
            self._writes.submit(lambda: self._store.record_console(instance_id, kept))
        return kept

    def record_ended(self, instance_id: str, when: datetime, reason: str, *, ended_at: datetime | None = None) -> None:
        """Record that an instance has ended, and requeue the tasks that it was running.

        Args:
            reason: Reason to record unless this run terminated the instance for another.
            ended_at: Its end as the provider names it, by the clock of the job; None: unknown.
        """
        why, is_canceled = self._reasons.get(instance_id, reason), self.is_terminated_by_us(instance_id)
        self._writes.submit(
            lambda: self._store.record_ended(instance_id, when, why, ended_at=ended_at, is_canceled=is_canceled),
            lambda interrupted: _log_ended(instance_id, why, interrupted),
        )


def _log_ended(instance_id: str, why: str, interrupted: int) -> None:
    tasks = "1 interrupted task" if interrupted == 1 else f"{interrupted} interrupted tasks"
    suffix = f"; {tasks} will run again" if interrupted else ""
    log.info(f"Instance '{instance_id}' terminated: {why}{suffix}")
