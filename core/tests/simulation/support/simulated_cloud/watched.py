"""Proxies of the controller's store, task queue, compute and fleet that report calls to the monitor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from cloud_tasks.controller.autoscaler.fleet import Fleet
from cloud_tasks.errors import LaunchRefusedError, StoreBusyError
from cloud_tasks.model import Instance, LaunchRequest
from cloud_tasks.store import Store
from simulated_cloud.monitor import Monitor
from simulated_cloud.unreliable import Unreliable

__all__ = ["REFUSED", "WatchedCompute", "WatchedFleet", "WatchedStore", "WatchedTasks"]

REFUSED = "refused by the store "
"""Start of the ids of events that the store cannot take."""


class WatchedStore:
    """Store proxy: every write is a crash point, and is reported to the monitor. Certain events are refused.

    Args:
        point: Called before and after each write; may raise.
        is_locked: Return whether every write fails.
    """

    _WRITES = frozenset(
        {
            "apply_events",
            "check_writable",
            "dead_letter",
            "mark_queued",
            "record_ended",
            "record_intents",
            "record_launch_failed",
            "record_launched",
            "record_states",
            "reopen_failed",
            "reopen_tasks",
            "renew_intents",
            "reset_for_requeue",
            "withdraw",
        }
    )

    def __init__(
        self,
        store: Store,
        monitor: Monitor,
        point: Callable[[str], None],
        is_locked: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._monitor = monitor
        self._point = point
        self._is_locked = is_locked

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in self._WRITES:
            return method

        def write(*args: Any, **kwargs: Any) -> Any:
            if self._is_locked():
                raise StoreBusyError("locked by another program")
            self._point(f"before {name}")
            self._before(name, args, kwargs)
            answer = method(*args, **kwargs)
            if name == "apply_events":
                self._monitor.applied(args[0])
            elif name == "reopen_failed":
                self._monitor.reopened(answer)
            elif name in ("record_launched", "record_launch_failed"):
                self._monitor.launch_settled(args[0])
            self._monitor.written(self._store.counts())
            self._point(f"after {name}")
            return answer

        self.__dict__[name] = write
        return write

    def _before(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if name == "record_intents":
            self._monitor.intended(self._store, args[0], kwargs.get("slots", 0))
        elif name == "apply_events" and any(event.event_id.startswith(REFUSED) for event in args[0]):
            raise ValueError("an event that the store cannot take")
        elif name == "record_ended":
            self._monitor.ending(args[0])
        elif name == "mark_queued":
            self._monitor.marked_queued(args[0])


class WatchedTasks:
    """Task queue proxy that reports accepted tasks to the monitor."""

    def __init__(self, inner: Unreliable, monitor: Monitor) -> None:
        self._inner = inner
        self._monitor = monitor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Any:
        failures = self._inner.send(bodies, delay=delay)
        self._monitor.took_tasks(bodies, {failure.index for failure in failures})
        return failures


class WatchedFleet:
    """Fleet proxy that reports terminations and listings to the monitor.

    Args:
        now: Return the true time.
        is_locked: Return whether no write to the store is possible.
    """

    def __init__(
        self, fleet: Fleet, monitor: Monitor, *, now: Callable[[], datetime], is_locked: Callable[[], bool]
    ) -> None:
        self._fleet = fleet
        self._monitor = monitor
        self._now = now
        self._is_locked = is_locked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fleet, name)

    async def list(self) -> Sequence[Instance] | None:
        requested_at = self._now()
        listing = await self._fleet.list()
        if listing is not None and not self._is_locked():
            self._monitor.listed(requested_at)
        return listing

    def terminate(self, instance_id: str, reason: str, **options: Any) -> None:
        self._monitor.terminating(instance_id, reason)
        self._fleet.terminate(instance_id, reason, **options)


class WatchedCompute:
    """Compute proxy that reports launches to the monitor."""

    def __init__(self, inner: Unreliable, monitor: Monitor, refusals: dict[int, LaunchRequest]) -> None:
        self._inner = inner
        self._monitor = monitor
        self._refusals = refusals

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def launch(self, request: LaunchRequest) -> Any:
        self._monitor.launch_called(request)
        try:
            return self._inner.launch(request)
        except LaunchRefusedError as error:
            self._refusals[id(error)] = request
            raise
