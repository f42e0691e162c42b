"""Recovery from deleted queues: a queue of the run that does not exist is created again, and its tasks sent again.

Invariants, each with a test:

1. Tasks are pending in the store before their queue exists: a run that is killed in between, and resumed, sends them.
2. A run whose queues are deleted again and again, or cannot exist any more, ends, with its instances.
   So does one whose provider refuses permanently, for some minutes, to create them.
3. A queue that was created a moment ago and is not found yet was not deleted: it is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from cloud_tasks.controller.deferred_writes import DeferredWrites
from cloud_tasks.controller.event_loop import Loop, Pause, call, sleep, start
from cloud_tasks.errors import InputError
from cloud_tasks.plugin import Queue
from cloud_tasks.quantities import counted, format_span
from cloud_tasks.queue_refusal import QueueRefusal
from cloud_tasks.store import Store

__all__ = ["QueueRecovery"]

log = structlog.get_logger()

_MAX_RECOVERIES = 3
_NEW_QUEUE = timedelta(minutes=10)
"""Time within which a queue that has not answered since its creation may still be unknown to the provider."""
_MIN_BACKOFF = timedelta(seconds=1)
_MAX_BACKOFF = timedelta(seconds=60)
"""Some providers refuse to create a queue for a minute after the deletion of one with its name."""

_TASKS, _EVENTS = 0, 1


class QueueRecovery:
    """Creates the queues of one run again.

    Args:
        is_running: Return whether the end of the run has not begun.
        last_answers: Return when the task queue last accepted a message, and when the event queue last answered.
        on_requeued: Called when unfinished tasks are pending again, and their queue exists.
        on_usable: Called when sending may be resumed: the task queue exists, and was not created again.
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
        last_answers: Callable[[], tuple[datetime | None, datetime | None]],
        on_requeued: Callable[[], None],
        on_usable: Callable[[], None],
        on_broken: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._store = store
        self._tasks = tasks
        self._events = events
        self._writes = writes
        self._is_running = is_running
        self._last_answers = last_answers
        self._on_requeued = on_requeued
        self._on_usable = on_usable
        self._on_broken = on_broken
        self._active = False
        self._recoveries = 0
        self._created_at = [loop.now(), loop.now()]
        """Of the task queue and the event queue."""
        self._backoff = _MIN_BACKOFF
        """Pause before a queue that exists, and is not found, is used again."""

    def request(self) -> None:
        """Create the missing queues, unless that is in progress or the run is ending."""
        if not self._active and self._is_running():
            self._active = True
            start(self._recover())

    async def _recover(self) -> None:
        backoff, may_create = _MIN_BACKOFF, False
        refusal = QueueRefusal(
            "provider of the queues",
            user="to create them",
            has_answered=True,
            clock=lambda: self._loop.now().timestamp(),
        )
        while self._is_running():
            try:
                missing = await call(self._loop, self._missing_queues)
                if not missing:
                    await self._wait_until_usable()
                    break
                may_create = may_create or self._may_be_created_again(missing)
                if may_create:
                    await self._create(missing)
            except InputError as error:
                # No later attempt can succeed.
                self._on_broken(str(error))
                break
            except Exception as error:
                if reason := refusal.failed(error):
                    self._on_broken(reason)
                    break
                log.warning(f"The queue could not be created; next attempt in {format_span(backoff)}: {error}")
                await sleep(self._loop, backoff)
                backoff = min(backoff * 2, _MAX_BACKOFF)
            else:
                break
        self._active = False

    def _missing_queues(self) -> Sequence[int]:
        return [number for number, queue in enumerate((self._tasks, self._events)) if not queue.exists()]

    def _may_be_created_again(self, missing: Sequence[int]) -> bool:
        """Count a deletion; return False, and end the run, after too many."""
        now, answers = self._loop.now(), self._last_answers()
        is_new = [
            now - self._created_at[number] < _NEW_QUEUE and not _is_after(answers[number], self._created_at[number])
            for number in missing
        ]
        if all(is_new):
            return True
        if self._recoveries == _MAX_RECOVERIES:
            self._on_broken(f"the queues of the job were deleted {_MAX_RECOVERIES + 1} times while it was running")
            return False
        self._recoveries += 1
        log.warning("A queue of the job was deleted; creating it again")
        return True

    async def _create(self, missing: Sequence[int]) -> None:
        self._backoff = _MIN_BACKOFF
        if _EVENTS in missing:
            await call(self._loop, self._events.create)
            self._created_at[_EVENTS] = self._loop.now()
        if _TASKS in missing:
            pending = await Pause[int](lambda then, failed: self._writes.submit(self._store.reset_for_requeue, then))
            await call(self._loop, self._tasks.create)
            self._created_at[_TASKS] = self._loop.now()
            log.warning(f"The task queue did not exist; {counted(pending, 'unfinished task')} will be sent again")
            self._on_requeued()

    async def _wait_until_usable(self) -> None:
        log.warning(f"A queue of the job exists and cannot be used yet; next attempt in {format_span(self._backoff)}")
        await sleep(self._loop, self._backoff)
        self._backoff = min(self._backoff * 2, _MAX_BACKOFF)
        if self._is_running():
            self._on_usable()


def _is_after(answer: datetime | None, created_at: datetime) -> bool:
    return answer is not None and answer > created_at
