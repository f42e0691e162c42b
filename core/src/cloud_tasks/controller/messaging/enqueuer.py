"""Task enqueuer: sends the pending tasks of the store to the task queue.

Invariants, each with a test:

1. A task is marked as queued only after the queue accepted it: a crash between the two sends it twice, never not at
   all.
2. A message that the queue did not accept is sent again; one that can never be sent (too large) aborts the run.
3. An error that may pass does not abort it: credentials that expired, any error for some minutes after a message was
   accepted (a permission that is being changed), and that of a new queue which is not found yet. Final are a first
   error that the provider does not mark as transient, one that lasts, and invalid input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from cloud_tasks.controller.deferred_writes import DeferredWrites
from cloud_tasks.controller.event_loop import Loop
from cloud_tasks.convert import encode_task_message
from cloud_tasks.errors import CredentialsError, InputError, NotFoundError, ProviderError
from cloud_tasks.model import TaskMessage
from cloud_tasks.plugin import Queue, SendFailure
from cloud_tasks.quantities import format_span
from cloud_tasks.queue_refusal import QueueRefusal
from cloud_tasks.store import Store

__all__ = ["MAX_PARALLEL_SENDS", "TaskEnqueuer"]

log = structlog.get_logger()

_BATCH = 1000
MAX_PARALLEL_SENDS = 8
_MIN_BACKOFF = timedelta(seconds=1)
_MAX_BACKOFF = timedelta(seconds=60)
_NEW_QUEUE = timedelta(minutes=10)
"""Time after which a queue that is not found does not exist: a new one may be unknown for minutes."""


class TaskEnqueuer:
    """Sends all pending tasks, a few batches at a time.

    Args:
        on_broken: Called with the reason if a task can never be sent.
        operations: Maximum number of send operations of the backend at a time.
        send_batch: Number of messages in one such operation.
        writes: Changes to the store; own ones by default.
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
        writes: DeferredWrites | None = None,
    ) -> None:
        self._loop = loop
        self._store = store
        self._writes = writes or DeferredWrites(loop, store)
        self.on_gone: Callable[[], None] | None = None
        """Called when the queue does not exist; sending then pauses until `start`. None: no task can be sent."""
        self.refusal = QueueRefusal("task queue", user="the controller", clock=lambda: loop.now().timestamp())
        self._queue = queue
        self._on_broken = on_broken
        at_a_time = max(operations * send_batch, 1)
        self._batch = min(_BATCH, at_a_time)
        self._parallel = max(min(at_a_time // _BATCH, MAX_PARALLEL_SENDS), 1)
        self._backoff = _MIN_BACKOFF
        self._active = False
        self._stopped = False
        self._open_batches = 0
        self._problem = ""
        self._unsendable = ""
        self._is_gone = False
        self._sent = 0
        self._missing_since: datetime | None = None
        self.last_accepted: datetime | None = None
        """Time at which the queue last accepted a message of this run."""
        self.done = False
        """Whether every task has been sent, or sending has been stopped."""

    def start(self) -> None:
        """Start sending, or resume after tasks became pending again."""
        if self._stopped:
            return
        self.done = False
        if not self._active:
            self._active = True
            self._step()

    def stop(self) -> None:
        """Stop sending; cannot be undone."""
        self._stopped = True
        self.done = not self._active

    def _step(self) -> None:
        if self._stopped:
            self._send_all(())
        else:
            self._writes.submit(lambda: self._store.pending_tasks(self._batch * self._parallel), self._send_all)

    def _send_all(self, messages: Sequence[TaskMessage]) -> None:
        if not messages:
            self._active = False
            self.done = True
            if self._sent:
                log.info(f"Loaded {_counted(self._sent)} into the queue")
                self._sent = 0
            return
        batches = [messages[first : first + self._batch] for first in range(0, len(messages), self._batch)]
        self._open_batches = len(batches)
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
        self._missing_since = None
        if len(failures) < len(task_ids):
            self.last_accepted = self._loop.now()
            self.refusal.answered()
        unsent = {failure.index for failure in failures}
        sent = [task_id for index, task_id in enumerate(task_ids) if index not in unsent]
        self._writes.submit(lambda: self._store.mark_queued(sent), lambda _: self._marked(task_ids, failures))

    def _marked(self, task_ids: Sequence[str], failures: Sequence[SendFailure]) -> None:
        self._sent += len(task_ids) - len(failures)
        permanent = next((failure for failure in failures if not failure.transient), None)
        if permanent is not None:
            self._unsendable = f'the queue refused task "{task_ids[permanent.index]}": {permanent.reason}'
        elif failures:
            self._problem = f"{_counted(len(failures))} could not be sent to the queue ({failures[0].reason})"
        self._after_batch()

    def _after_error(self, error: Exception) -> None:
        if isinstance(error, NotFoundError) and self.on_gone is not None:
            self._is_gone = True
        elif self._may_pass(error):
            self._problem = f"Tasks could not be sent to the queue ({error})"
        else:
            self._unsendable = f"tasks cannot be sent to the queue: {error}"
        self._after_batch()

    def _may_pass(self, error: Exception) -> bool:
        if isinstance(error, NotFoundError):
            now = self._loop.now()
            self._missing_since = self._missing_since or now
            return now - self._missing_since < _NEW_QUEUE
        if isinstance(error, CredentialsError) or (isinstance(error, ProviderError) and error.transient):
            return True
        if self.last_accepted is None or isinstance(error, InputError):
            return False
        return not self.refusal.failed(error)

    def _after_batch(self) -> None:
        """After the last open batch, send the next ones, now or after a pause, or report an unsendable task."""
        self._open_batches -= 1
        if self._open_batches:
            return
        problem, self._problem = self._problem, ""
        is_gone, self._is_gone = self._is_gone, False
        if is_gone and self.on_gone is not None:
            self._active = False
            self.on_gone()
        elif self._unsendable:
            self._active = False
            self._on_broken(self._unsendable)
        elif problem:
            log.warning(f"{problem}; next attempt in {format_span(self._backoff)}")
            self._loop.later(self._backoff, self._step)
            self._backoff = min(self._backoff * 2, _MAX_BACKOFF)
        else:
            self._backoff = _MIN_BACKOFF
            self._step()


def _counted(tasks: int) -> str:
    return "1 task" if tasks == 1 else f"{tasks:,} tasks"
