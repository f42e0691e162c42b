"""Recovery from deleted queues: a queue of the run that does not exist is created again, and its tasks sent again.

Invariants, each with a test:

1. Tasks are pending in the store before their queue exists: a run that is killed in between, and resumed, sends them.
2. A run whose queues are deleted again and again ends, with its instances.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import structlog

from cloud_tasks.controller.deferred_writes import DeferredWrites
from cloud_tasks.controller.event_loop import Loop, Pause, call, sleep, start
from cloud_tasks.plugin import Queue
from cloud_tasks.quantities import counted, format_span
from cloud_tasks.store import Store

__all__ = ["QueueRecovery"]

log = structlog.get_logger()

_MAX_RECOVERIES = 3
_MIN_BACKOFF = timedelta(seconds=1)
_MAX_BACKOFF = timedelta(seconds=60)
"""Some providers refuse to create a queue for a minute after the deletion of one with its name."""


class QueueRecovery:
    """Creates the queues of one run again.

    Args:
        is_running: Return whether the end of the run has not begun.
        on_requeued: Called when unfinished tasks are pending again, and their queue exists.
        on_broken: Called with the reason when the queues have been deleted too often.
    """

    def __init__(
        self,
        loop: Loop,
        store: Store,
        *,
        tasks: Queue,
        events: Queue,
        writes: DeferredWrites,
        is_running: Callable[[], bool],
        on_requeued: Callable[[], None],
        on_broken: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._store = store
        self._tasks = tasks
        self._events = events
        self._writes = writes
        self._is_running = is_running
        self._on_requeued = on_requeued
        self._on_broken = on_broken
        self._active = False
        self._recoveries = 0

    def request(self) -> None:
        """Create the missing queues, unless that is in progress or the run is ending."""
        if self._active or not self._is_running():
            return
        if self._recoveries == _MAX_RECOVERIES:
            self._on_broken(f"the queues of the job were deleted {_MAX_RECOVERIES + 1} times while it was running")
            return
        self._recoveries += 1
        self._active = True
        log.warning("A queue of the job was deleted; creating it again")
        start(self._recover())

    async def _recover(self) -> None:
        backoff = _MIN_BACKOFF
        while self._is_running():
            try:
                await self._create_missing()
            except Exception as error:
                log.warning(f"The queue could not be created; next attempt in {format_span(backoff)}: {error}")
                await sleep(self._loop, backoff)
                backoff = min(backoff * 2, _MAX_BACKOFF)
            else:
                break
        self._active = False

    async def _create_missing(self) -> None:
        if await call(self._loop, self._is_task_queue_missing):
            pending = await Pause[int](lambda then, failed: self._writes.submit(self._store.reset_for_requeue, then))
            await call(self._loop, self._tasks.create)
            log.warning(f"The task queue was deleted; {counted(pending, 'unfinished task')} will be sent again")
            self._on_requeued()

    def _is_task_queue_missing(self) -> bool:
        self._events.create()
        return not self._tasks.exists()
