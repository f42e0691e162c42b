"""Consumer of the task queue: a thread leases tasks, and prefetches as many as keep the slots busy.

Invariants, each with a test:

1. A message that is not a task is reported and acked; it blocks nothing.
2. A task that was interrupted too often is reported dead and acked, not run again.
3. Tasks that were fetched and not started are released at once on a shutdown.
4. The prefetched tasks last for about half a second, or a second where requests cost money; a surplus is released for
   other workers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

from cloud_tasks.convert import MalformedMessageError, decode_task_message
from cloud_tasks.errors import NotFoundError
from cloud_tasks.plugin import Delivery, Queue, QueueTraits
from cloud_tasks.queue_refusal import QueueRefusal
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.consumers.attempt_types import LONG_BODY, PendingAttempt
from cloud_tasks.worker.consumers.lease_extender import LeaseExtender
from cloud_tasks.worker.consumers.task_buffer import TaskBuffer, prefetch_target

__all__ = ["QueueConsumer"]

_MIN_WAIT, _MAX_WAIT = 0.25, 2.0
"""Seconds that the queue may wait for a task. Short at first: a shutdown waits for the answer, and a queue that has
just become empty often means the end of the job."""
_LONG_TASK = 2.0
"""Duration of a task, in seconds, from which on surplus tasks are released at once."""
_MIN_BACKOFF, _MAX_BACKOFF = 0.2, 10.0
_HOLD_SECONDS = 1.0
"""Delay of a task up to which it is held here instead of being released to the queue."""


class QueueConsumer:
    """Consumer of a task queue. All callbacks are called from its thread.

    Args:
        slots: Number of tasks that run at a time.
        max_losses: Number of interrupted attempts after which a task is dead.
        on_malformed: Called with (lease, reason) of each message that is not a task.
        on_dead: Called with each task that was interrupted too often.
        on_unused: Called with unstarted tasks, to be released without counting an interrupted attempt.
        on_change: Called when there may be new tasks.
        on_refused: Called once with the reason if the queue refuses this worker permanently.
    """

    def __init__(
        self,
        queue: Queue,
        traits: QueueTraits,
        leases: LeaseExtender,
        *,
        slots: int,
        max_losses: int,
        on_malformed: Callable[[str, str], None],
        on_dead: Callable[[PendingAttempt], None],
        on_unused: Callable[[Sequence[PendingAttempt]], None],
        on_change: Callable[[], None],
        on_refused: Callable[[str], None] = lambda reason: None,
        log: Log,
    ) -> None:
        self._queue = queue
        self._traits = traits
        self._leases = leases
        self._slots = slots
        self._max_losses = max_losses
        self._on_malformed = on_malformed
        self._on_dead = on_dead
        self._on_unused = on_unused
        self._on_change = on_change
        self._on_refused = on_refused
        self._log = log
        self._buffer = TaskBuffer()
        self._lock = threading.Condition()
        self._requested = 0
        self._had_surplus = False
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name="worker-receive", daemon=True)
        self._problem = ""
        self._refusal = QueueRefusal("task queue")
        self.failure = ""
        self.expected: int | None = None
        self.exhausted = False

    def start(self) -> None:
        self._thread.start()

    def request(self, idle_slots: int, *, mean_seconds: float | None) -> None:
        target, ready = self._target(mean_seconds), len(self._buffer)
        missing = idle_slots + target - ready
        # Wait until half of the prefetched tasks are used: fewer, larger batches.
        if idle_slots <= ready and missing * 2 < target:
            missing = 0
        if missing > 0 and self._requested == 0:
            with self._lock:
                self._requested = missing
                self._lock.notify()

    def _target(self, mean_seconds: float | None) -> int:
        return prefetch_target(mean_seconds, self._slots, is_billed=self._traits.bills_requests)

    def take_surplus(self, mean_seconds: float) -> Sequence[PendingAttempt]:
        target, ready = self._target(mean_seconds), self._buffer.promote_due()
        # The mean duration rises with each long task, so a surplus is twice the target, twice in a row.
        had_surplus, self._had_surplus = self._had_surplus, ready > self._slots + 2 * target
        if mean_seconds < _LONG_TASK and not (had_surplus and self._had_surplus):
            return []
        return self._buffer.take_surplus(target)

    def get(self) -> PendingAttempt | None:
        return self._buffer.get()

    @property
    def due_at(self) -> float | None:
        return self._buffer.due_at

    @property
    def is_refused(self) -> bool:
        return self._refusal.is_refused

    def requeue(self, work: PendingAttempt, delay: float) -> bool:
        return False

    def mark_leases_lost(self, lease_ids: Sequence[str]) -> None:
        self._buffer.mark_lost(set(lease_ids))

    def stop(self) -> Sequence[PendingAttempt]:
        with self._lock:
            self._stopped = True
            self._lock.notify()
        return self._buffer.close()

    def close(self) -> None:
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(_MAX_WAIT + 5.0)

    def _serve(self) -> None:
        backoff, wait, refusal = _MIN_BACKOFF, _MIN_WAIT, self._refusal
        while True:
            with self._lock:
                while self._requested == 0 and not self._stopped:
                    self._lock.wait()
                if self._stopped:
                    return
                requested = self._requested
            try:
                deliveries = self._queue.receive(
                    min(requested, self._traits.receive_batch), wait=timedelta(seconds=wait)
                )
            except Exception as error:
                if reason := refusal.failed(error):
                    self._fail(reason)
                    return
                self._warn(error)
                backoff = self._wait(backoff)
            else:
                refusal.answered()
                backoff, self._problem = _MIN_BACKOFF, ""
                wait = _MIN_WAIT if deliveries else min(2 * wait, _MAX_WAIT)
                self._add(deliveries)

    def _warn(self, error: Exception) -> None:
        """Log each attempt that failed, and once that the queue is missing."""
        problem = "The task queue does not exist, waiting for it" if isinstance(error, NotFoundError) else ""
        if not problem or problem != self._problem:
            self._log.warning(f"{problem or 'Tasks cannot be received, retrying'}: {error}")
        self._problem = problem

    def _wait(self, seconds: float) -> float:
        """Wait unless the consumer is stopped; return the next backoff."""
        with self._lock:
            if not self._stopped:
                self._lock.wait(seconds)
        return min(_MAX_BACKOFF, seconds * 2)

    def _fail(self, reason: str) -> None:
        self.failure = reason
        self._on_refused(reason)
        self.exhausted = True
        self._on_change()

    def _add(self, deliveries: Sequence[Delivery]) -> None:
        self._leases.hold(delivery.lease_id for delivery in deliveries)
        later: dict[float, list[PendingAttempt]] = {}
        due: list[PendingAttempt] = []
        for delivery in deliveries:
            work = self._decode(delivery)
            if work is not None:
                self._sort(work, due, later)
        for seconds, attempts in later.items():
            self._release(attempts, seconds)
        if due and not self._buffer.add(due):
            self._release(due, 0.0)
        with self._lock:
            self._requested = 0
        self._on_change()

    def _decode(self, delivery: Delivery) -> PendingAttempt | None:
        try:
            message = decode_task_message(delivery.body)
        except MalformedMessageError as error:
            self._on_malformed(delivery.lease_id, str(error))
            return None
        except Exception as error:
            self._on_malformed(delivery.lease_id, f"not a task message: {type(error).__name__}")
            return None
        losses = message.losses + (delivery.delivery_count or 1) - 1
        work = PendingAttempt(
            message.task_id,
            dict(message.data) if len(delivery.body) < LONG_BODY else delivery.body,
            attempt=message.attempt,
            losses=losses,
            not_before=message.not_before,
            delay=message.delay,
            lease_id=delivery.lease_id,
        )
        if losses > self._max_losses:
            self._on_dead(work)
            return None
        return work

    def _sort(self, work: PendingAttempt, due: list[PendingAttempt], later: dict[float, list[PendingAttempt]]) -> None:
        """Add a task to the due ones, to those to release for some seconds, or hold it in the buffer."""
        seconds = work.wait
        if seconds <= 0:
            due.append(work)
        elif seconds > _HOLD_SECONDS and self._traits.delay > timedelta(0):
            later.setdefault(round(min(seconds, self._traits.delay.total_seconds()), 0), []).append(work)
        elif not self._buffer.hold(work, seconds):
            later.setdefault(0.0, []).append(work)

    def _release(self, attempts: Sequence[PendingAttempt], seconds: float) -> None:
        if self._traits.reports_delivery_count:
            # A release would count as an interrupted attempt, and a task with a long delay would become dead.
            self._on_unused(attempts)
            return
        lease_ids = [work.lease_id for work in attempts if work.lease_id is not None]
        try:
            self._queue.release(lease_ids, delay=timedelta(seconds=seconds))
        except Exception as error:
            self._log.warning(f"Tasks cannot be released and are delivered again when their leases expire: {error}")
        self._leases.drop(lease_ids)
