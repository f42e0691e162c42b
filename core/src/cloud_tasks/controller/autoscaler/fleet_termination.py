"""Termination of all instances of a run.

Invariants, each with a test:

1. The termination is confirmed by a complete listing only, never by a failed one.
2. The instances that the records know are terminated first, without a listing.
3. No error, and no call without an answer, ends the attempts early or keeps other instances running.
4. Every record of an instance ends with the confirmation.
5. Instances of another controller of the job are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import structlog

from cloud_tasks.controller.autoscaler.fleet import Fleet
from cloud_tasks.controller.autoscaler.observe import StateBuilder
from cloud_tasks.controller.event_loop import Loop, gather, sleep
from cloud_tasks.controller.launch.terminate import divide
from cloud_tasks.model import Instance, InstanceState
from cloud_tasks.quantities import format_span
from cloud_tasks.store import InstanceRecord, Store

__all__ = ["FleetTermination"]

log = structlog.get_logger()

_MIN_BACKOFF = timedelta(seconds=2)
_MAX_BACKOFF = timedelta(seconds=15)
_TIMEOUT = timedelta(minutes=10)
_REASON = "the run has ended"


class FleetTermination:
    """Terminates the instances of a run until a complete listing shows none."""

    def __init__(self, loop: Loop, store: Store, *, fleet: Fleet, states: StateBuilder) -> None:
        self._loop = loop
        self._store = store
        self._fleet = fleet
        self._states = states
        self._last_listed: tuple[str, ...] = ()
        self._requested: set[str] = set()
        """Recorded instances with a successful termination call."""
        self._failures = 0
        """Rounds with a failed call."""
        self.confirmed = False
        """Whether a complete listing confirmed that no instance of the job is left."""

    async def run(self) -> None:
        """Terminate the instances until none is listed, for ten minutes at most."""
        deadline = self._loop.now() + _TIMEOUT
        backoff = _MIN_BACKOFF
        while True:
            await self._terminate_recorded()
            listing = await self._list()
            if listing is not None and self._is_final():
                self._record_all_ended()
                self.confirmed = True
                return
            if self._loop.now() > deadline:
                names = ", ".join(self.instances_left()) or "unknown"
                log.error(
                    f"Instances not known to be terminated after {format_span(_TIMEOUT)}: {names}; "
                    "run `cloud-tasks stop`"
                )
                return
            if listing is not None and await self._terminate(self._last_listed):
                backoff = _MIN_BACKOFF
            await sleep(self._loop, backoff)
            backoff = min(backoff * 1.5, _MAX_BACKOFF)

    async def _terminate_recorded(self) -> None:
        ids = [record.instance_id for record in self._living() if record.instance_id is not None]
        await self._terminate([i for i in ids if i not in self._requested])

    async def _terminate(self, instance_ids: Sequence[str]) -> bool:
        """Terminate instances, in more calls after each failure; return whether all calls succeeded."""
        if not instance_ids:
            return True
        results = await gather([self._terminate_piece(piece) for piece in divide(instance_ids, self._failures)])
        self._failures += not all(results)
        return all(results)

    async def _terminate_piece(self, instance_ids: Sequence[str]) -> bool:
        succeeded = await self._fleet.terminate_all(instance_ids, _REASON)
        if succeeded:
            self._requested.update(instance_ids)
        return succeeded

    async def _list(self) -> Sequence[Instance] | None:
        self._states.listing_requested()
        listing = await self._fleet.list()
        if listing is not None:
            self._states.record_listing(listing)
            own = (i for i in listing if self._states.is_own(i))
            self._last_listed = tuple(i.instance_id for i in own if i.state is not InstanceState.TERMINATED)
        return listing

    def _is_final(self) -> bool:
        """Return whether the last listing shows no instance, and none can appear later."""
        may_appear = any(self._states.may_be_unlisted(record) for record in self._living())
        return not self._last_listed and not may_appear and not self._fleet.busy

    def instances_left(self) -> tuple[str, ...]:
        """Return the ids of the instances that are not known to be terminated. Safe in any thread."""
        if self.confirmed:
            return ()
        recorded = [record.instance_id or f"{record.client_token} (launch not answered)" for record in self._living()]
        return tuple(dict.fromkeys((*recorded, *self._last_listed)))

    def _living(self) -> list[InstanceRecord]:
        return [record for record in self._store.instances() if record.ended_at is None]

    def _record_all_ended(self) -> None:
        for record in self._living():
            if record.instance_id is None:
                self._fleet.record_unlisted(record.client_token, "launch not answered, instance never listed")
            else:
                self._fleet.record_ended(record.instance_id, self._loop.now(), _REASON)
