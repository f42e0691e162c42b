"""Tasks from the queue: leased by a thread, as many ahead as keeps the slots busy and no more.

Invariants, each with a test:

1. A message that is no task is reported and acked; it blocks nothing.
2. A task that was lost too often is reported dead and acked, not run again.
3. What is fetched and not started at a shutdown is released at once.
4. No more is fetched ahead than is used up in about half a second, and what turns out to be more is given back: other
   workers get the rest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from cloud_tasks.convert import MalformedMessageError, decode_task_message
from cloud_tasks.errors import NotFoundError
from cloud_tasks.plugin import Delivery, Queue, QueueTraits
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.consumers.attempt_types import LONG_BODY, PendingAttempt
from cloud_tasks.worker.consumers.lease_extender import LeaseExtender
from cloud_tasks.worker.consumers.task_buffer import TaskBuffer, prefetch_target

__all__ = ["QueueConsumer"]

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 2.0
"""Seconds that the queue is asked to wait for a task: short at first, for a shutdown waits for the answer, and a queue
that has just run empty is often the end of the job."""
_LONG = 2.0
"""Seconds that a task takes for which another is better off with any other worker."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
_SOON = 1.0
_GONE_PATIENCE = 60.0


class QueueConsumer:
    """The feed of a task queue.

    Args:
        max_losses: How often a task may be lost before it is dead.
        on_malformed: Given (lease, reason) of each message that is no task.
        on_dead: Given each task that was lost too often.
        on_unused: Given, from the thread, tasks to be given back without counting as lost: they were not begun.
        on_change: Called from the thread when something new is at hand.
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
        self._log = log
        self._buffer = TaskBuffer()
        self._lock = threading.Condition()
        self._wanted = 0
        self._had_too_many = False
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name="worker-receive", daemon=True)
        self.failure = ""
        self.expected: int | None = None
        self.exhausted = False

    def start(self) -> None:
        self._thread.start()

    def want(self, idle_slots: int, *, mean_seconds: float | None) -> None:
        ahead, ready = prefetch_target(mean_seconds, self._slots), len(self._buffer)
        missing = idle_slots + ahead - ready
        # With many ahead, ask again when half of them are used: fewer, larger batches.
        if idle_slots <= ready and missing * 2 < ahead:
            missing = 0
        if missing > 0 and self._wanted == 0:
            with self._lock:
                self._wanted = missing
                self._lock.notify()

    def surplus(self, mean_seconds: float) -> Sequence[PendingAttempt]:
        ahead, ready = prefetch_target(mean_seconds, self._slots), self._buffer.promote_due()
        # The duration of tasks is an average, which rises with each long one: so twice the target, twice in a row.
        had_too_many, self._had_too_many = self._had_too_many, ready > self._slots + 2 * ahead
        if mean_seconds < _LONG and not (had_too_many and self._had_too_many):
            return []
        return self._buffer.take_surplus(ahead)

    def get(self) -> PendingAttempt | None:
        return self._buffer.get()

    @property
    def due_at(self) -> float | None:
        return self._buffer.due_at

    def again(self, work: PendingAttempt, delay: float) -> bool:
        return False

    def lost(self, lease_ids: Sequence[str]) -> None:
        """Leave the tasks of lost leases, if not handed out yet, to other workers."""
        self._buffer.mark_lost(set(lease_ids))

    def stop(self) -> Sequence[PendingAttempt]:
        with self._lock:
            self._stopped = True
            self._lock.notify()
        return self._buffer.close()

    def close(self) -> None:
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(_LONGEST_WAIT + 5.0)

    def _serve(self) -> None:
        pause, wait, gone_since = _FIRST_PAUSE, _FIRST_WAIT, None
        while True:
            with self._lock:
                while self._wanted == 0 and not self._stopped:
                    self._lock.wait()
                if self._stopped:
                    return
                wanted = self._wanted
            try:
                deliveries = self._queue.receive(min(wanted, self._traits.receive_batch), wait=timedelta(seconds=wait))
            except NotFoundError as error:
                gone_since = gone_since or time.monotonic()
                if time.monotonic() - gone_since > _GONE_PATIENCE:
                    self._fail(f"the task queue is gone: {error}")
                    return
                pause = self._pause(pause)
            except Exception as error:
                self._log.warning(f"Tasks cannot be received: {error}; trying again")
                pause = self._pause(pause)
            else:
                pause, gone_since = _FIRST_PAUSE, None
                wait = _FIRST_WAIT if deliveries else min(2 * wait, _LONGEST_WAIT)
                self._take(deliveries)

    def _pause(self, seconds: float) -> float:
        with self._lock:
            if not self._stopped:
                self._lock.wait(seconds)
        return min(_LONGEST_PAUSE, seconds * 2)

    def _fail(self, reason: str) -> None:
        self.failure = reason
        self.exhausted = True
        self._on_change()

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        self._leases.hold(delivery.lease_id for delivery in deliveries)
        later: dict[float, list[PendingAttempt]] = {}
        new: list[PendingAttempt] = []
        for delivery in deliveries:
            work = self._read(delivery)
            if work is not None:
                self._sort_in(work, new, later)
        for seconds, works in later.items():
            self._give_back(works, seconds)
        if new and not self._buffer.add(new):
            self._give_back(new, 0.0)
        with self._lock:
            self._wanted = 0
        self._on_change()

    def _read(self, delivery: Delivery) -> PendingAttempt | None:
        try:
            message = decode_task_message(delivery.body)
        except MalformedMessageError as error:
            self._on_malformed(delivery.lease_id, str(error))
            return None
        losses = message.losses + (delivery.delivery_count or 1) - 1
        work = PendingAttempt(
            message.task_id,
            dict(message.data) if len(delivery.body) < LONG_BODY else delivery.body,
            attempt=message.attempt,
            losses=losses,
            not_before=message.not_before,
            lease_id=delivery.lease_id,
        )
        if losses > self._max_losses:
            self._on_dead(work)
            return None
        return work

    def _sort_in(
        self, work: PendingAttempt, new: list[PendingAttempt], later: dict[float, list[PendingAttempt]]
    ) -> None:
        """Work that is due, work to be given back for a while, or, where the queue has no delay, work to be kept."""
        seconds = work.not_before - time.time()
        if seconds <= 0:
            new.append(work)
        elif seconds > _SOON and self._traits.delay > timedelta(0):
            later.setdefault(round(min(seconds, self._traits.delay.total_seconds()), 0), []).append(work)
        elif not self._buffer.hold(work):
            later.setdefault(0.0, []).append(work)

    def _give_back(self, works: Sequence[PendingAttempt], seconds: float) -> None:
        if self._traits.reports_delivery_count:
            # A release would count as a loss, and a task that is due late would be dead before.
            self._on_unused(works)
            return
        lease_ids = [work.lease_id for work in works if work.lease_id is not None]
        try:
            self._queue.release(lease_ids, delay=timedelta(seconds=seconds))
        except Exception as error:
            self._log.warning(f"Tasks could not be given back, and come again after their lease: {error}")
        self._leases.drop(lease_ids)
