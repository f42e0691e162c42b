"""Termination of all instances of a run.

Invariants, each with a test:

1. The termination is confirmed by a complete listing only, never by a failed one.
2. Every record of an instance ends with the confirmation.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import structlog

from cloud_tasks.controller.autoscaler.fleet import Fleet
from cloud_tasks.controller.autoscaler.observe import StateBuilder
from cloud_tasks.controller.event_loop import Loop, sleep
from cloud_tasks.model import Instance, InstanceState
from cloud_tasks.store import InstanceRecord, Store

__all__ = ["FleetTermination"]

log = structlog.get_logger()

_RELIST_INTERVAL = timedelta(seconds=2)
"""Time between two listings while no instance is listed and the termination is not confirmed."""
_TIMEOUT = timedelta(minutes=10)
_REASON = "the job is over"


class FleetTermination:
    """Terminates the instances of a run until a complete listing shows none."""

    def __init__(self, loop: Loop, store: Store, *, fleet: Fleet, states: StateBuilder) -> None:
        self._loop = loop
        self._store = store
        self._fleet = fleet
        self._states = states
        self._last_listed: tuple[str, ...] = ()
        self.confirmed = False
        """Whether a complete listing confirmed that no instance of the job is left."""

    async def run(self) -> None:
        """Terminate what is listed until nothing is, for ten minutes at most."""
        deadline = self._loop.now() + _TIMEOUT
        while True:
            self._states.listing_requested()
            listing = await self._fleet.list()
            if listing is not None:
                self._states.record_listing(listing)
                self._last_listed = _existing(listing)
            left = () if listing is None else self._last_listed
            if listing is not None and not left and not self._may_be_unlisted() and not self._fleet.busy:
                self._record_all_ended()
                self.confirmed = True
                return
            if self._loop.now() > deadline:
                log.error(f"{len(left) or 'Unknown'} instances could not be terminated; see `cloud-tasks sweep`")
                return
            await self._fleet.terminate_all(left, _REASON)
            await sleep(self._loop, timedelta(0) if left else _RELIST_INTERVAL)

    def instances_left(self) -> tuple[str, ...]:
        """Return the ids of the instances that are not known to be terminated. Safe in any thread."""
        if self.confirmed:
            return ()
        recorded = [record.instance_id or f"{record.client_token} (launch not answered)" for record in self._living()]
        return tuple(dict.fromkeys((*recorded, *self._last_listed)))

    def _living(self) -> list[InstanceRecord]:
        return [record for record in self._store.instances() if record.ended_at is None]

    def _may_be_unlisted(self) -> bool:
        return any(self._states.may_be_unlisted(record) for record in self._living())

    def _record_all_ended(self) -> None:
        for record in self._living():
            if record.instance_id is None:
                self._store.record_launch_failed(record.client_token, "launch never answered, instance never seen")
            else:
                self._fleet.record_ended(record.instance_id, self._loop.now(), _REASON)


def _existing(listing: Sequence[Instance]) -> tuple[str, ...]:
    return tuple(i.instance_id for i in listing if i.state is not InstanceState.TERMINATED)
