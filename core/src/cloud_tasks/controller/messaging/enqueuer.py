"""Feeds the task queue from the store.

Invariants, each with a test:

1. A task is marked as queued only after the queue took it: a crash between the two sends it twice, never not at all.
2. A refused message is tried again; a message that can never be sent (too large) fails the job loudly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from cloud_tasks.controller.event_loop import Loop
from cloud_tasks.convert import encode_task_message
from cloud_tasks.errors import ProviderError
from cloud_tasks.model import TaskMessage
from cloud_tasks.plugin import Queue, SendFailure
from cloud_tasks.store import Store

__all__ = ["MOST_PARALLEL_SENDS", "TaskEnqueuer"]

log = structlog.get_logger()

_BATCH = 1000
MOST_PARALLEL_SENDS = 8
_FIRST_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(seconds=60)


class TaskEnqueuer:
    """Sends every pending task, in waves of a few batches at a time.

    Args:
        on_broken: Called with the reason when a task cannot be sent at all.
        operations: How many messages may be on their way at a time, counted in the backend's own send operations.
        send_batch: How many messages one such operation takes.
    """

    def __init__(
        self,
        loop: Loop,
        store: Store,
        queue: Queue,
        *,
        on_broken: Callable[[str], None],
        operations: int = 1,
        send_batch: int = _BATCH,
    ) -> None:
        self._loop = loop
        self._store = store
        self._queue = queue
        self._on_broken = on_broken
        at_a_time = max(operations * send_batch, 1)
        self._batch = min(_BATCH, at_a_time)
        self._parallel = max(min(at_a_time // _BATCH, MOST_PARALLEL_SENDS), 1)
        self._pause = _FIRST_PAUSE
        self._active = False
        self._stopped = False
        self._under_way = 0
        self._problem = ""
        self._hopeless = ""
        self._sent = 0
        self.done = False
        """Whether every task has been sent, or none is to be sent any more."""

    def start(self) -> None:
        """Begin, or begin again after tasks became pending once more."""
        if self._stopped:
            return
        self.done = False
        if not self._active:
            self._active = True
            self._step()

    def stop(self) -> None:
        """Send no more, for good."""
        self._stopped = True
        self.done = not self._active

    def _step(self) -> None:
        messages = [] if self._stopped else self._store.pending_tasks(self._batch * self._parallel)
        if not messages:
            self._active = False
            self.done = True
            if self._sent:
                log.info(f"Loaded {self._sent} tasks into the queue")
                self._sent = 0
            return
        batches = [messages[first : first + self._batch] for first in range(0, len(messages), self._batch)]
        self._under_way = len(batches)
        for batch in batches:
            self._send(batch)

    def _send(self, batch: Sequence[TaskMessage]) -> None:
        task_ids = [message.task_id for message in batch]
        bodies = [encode_task_message(message) for message in batch]
        self._loop.call(
            lambda: self._queue.send(bodies),
            lambda failures: self._after_send(task_ids, failures),
            self._after_error,
        )

    def _after_send(self, task_ids: Sequence[str], failures: Sequence[SendFailure]) -> None:
        unsent = {failure.index for failure in failures}
        self._store.mark_queued([task_id for index, task_id in enumerate(task_ids) if index not in unsent])
        self._sent += len(task_ids) - len(unsent)
        hopeless = next((failure for failure in failures if not failure.transient), None)
        if hopeless is not None:
            self._hopeless = f'the queue refused task "{task_ids[hopeless.index]}": {hopeless.reason}'
        elif failures:
            self._problem = f"The queue did not take {len(failures)} tasks ({failures[0].reason})"
        self._after_batch()

    def _after_error(self, error: Exception) -> None:
        if isinstance(error, ProviderError) and error.transient:
            self._problem = f"Tasks could not be sent to the queue ({error})"
        else:
            self._hopeless = f"tasks cannot be sent to the queue: {error}"
        self._after_batch()

    def _after_batch(self) -> None:
        """Once the whole wave was answered: the next one, now or after a pause, or the end."""
        self._under_way -= 1
        if self._under_way:
            return
        problem, self._problem = self._problem, ""
        if self._hopeless:
            self._active = False
            self._on_broken(self._hopeless)
        elif problem:
            log.warning(f"{problem}; trying again in {self._pause.total_seconds():.0f} s")
            self._loop.later(self._pause, self._step)
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        else:
            self._pause = _FIRST_PAUSE
            self._step()
