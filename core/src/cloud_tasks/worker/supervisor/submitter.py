"""Submission of attempts: which are submitted, when, and which are released for other workers.

Invariants, each with a test:

1. While reports pile up, no attempt is submitted.
2. Tasks of the queue that no slot will soon be free for are released, for other workers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cloud_tasks.errors import InputError
from cloud_tasks.worker.common.formatting import counted
from cloud_tasks.worker.consumers.attempt_types import UNUSABLE_DATA, PendingAttempt
from cloud_tasks.worker.supervisor.execution.attempt_executor import AttemptExecutor
from cloud_tasks.worker.supervisor.execution.circuit_breaker import CircuitBreaker
from cloud_tasks.worker.supervisor.execution.forkserver_client import ForkserverClient
from cloud_tasks.worker.supervisor.parts import SupervisorParts
from cloud_tasks.worker.supervisor.settings import SupervisorSettings

if TYPE_CHECKING:
    from cloud_tasks.worker.worker_config import Command

__all__ = ["Submitter"]

_CLOGGED_INTERVAL = 0.05
"""Seconds between two checks whether reports were sent, while no attempt is submitted because of them."""
_SURPLUS_INTERVAL = 2.0
"""Seconds between two checks for tasks that should go back to the queue."""


class Submitter:
    """Submits the attempts of a consumer while there is capacity. Used in the supervisor's loop.

    Args:
        breaker: Decides when to resume after failures of the worker's own means.
        on_unusable_command: Called with the error of a command that cannot be used; its task is kept.
    """

    def __init__(
        self,
        settings: SupervisorSettings,
        parts: SupervisorParts,
        *,
        forkserver: ForkserverClient,
        executor: AttemptExecutor,
        breaker: CircuitBreaker,
        on_unusable_command: Callable[[str], None],
    ) -> None:
        self._slots = settings.slots
        self._command = settings.command
        """The command, until it was checked with the first task."""
        self._parts = parts
        self._forkserver = forkserver
        self._executor = executor
        self._breaker = breaker
        self._on_unusable_command = on_unusable_command
        self._returned: deque[PendingAttempt] = deque()
        """Attempts that were submitted and returned, to be submitted again."""
        self._mean_seconds: float | None = None
        self.is_ready = False
        """Whether the fork server accepts attempts."""
        self.is_accepting = True
        """Whether attempts are submitted; False once a shutdown has started."""

    def start(self) -> None:
        """Start the consumer, and check regularly for tasks that should go back to the queue."""
        self._parts.consumer.start()
        self._parts.loop.later(_SURPLUS_INTERVAL, self._release_surplus)

    @property
    def has_returned(self) -> bool:
        """Whether attempts wait to be submitted again."""
        return bool(self._returned)

    @property
    def is_done(self) -> bool:
        """Whether no attempt will be submitted any more."""
        return not self._returned and (not self.is_accepting or self._parts.consumer.exhausted)

    @property
    def due_at(self) -> float:
        """Time of the next `submit` that is needed (`time.monotonic`); infinite for none."""
        due = float("inf")
        if not self.is_accepting:
            return due
        now = time.monotonic()
        if self._breaker.resume_at > now:
            return self._breaker.resume_at
        if self._executor.capacity:
            task_due = self._parts.consumer.due_at
            if task_due is not None:
                due = task_due
            if self._parts.reporter.is_clogged:
                due = min(due, now + _CLOGGED_INTERVAL)
        return due

    def submit(self) -> None:
        """Submit attempts while there is capacity."""
        if not self.is_accepting or not self.is_ready or not self._forkserver.is_connected:
            return
        if self._breaker.cause and time.monotonic() < self._breaker.resume_at:
            return
        executor, mean_seconds = self._executor, self._expected_seconds()
        executor.expect(mean_seconds)
        while (capacity := executor.capacity) and not self._parts.reporter.is_clogged and self._submit(capacity):
            continue
        self._parts.consumer.request(executor.capacity, mean_seconds=mean_seconds)

    def _submit(self, count: int) -> bool:
        """Submit so many attempts; return False if there were fewer."""
        submit, get = self._executor.submit, self._parts.consumer.get
        for _ in range(count):
            work = self._next_returned() if self._returned else None
            work = work or get()
            if work is None or (self._command is not None and not self._is_usable(self._command, work)):
                return False
            submit(work)
        return True

    def submit_again(self, attempts: Sequence[PendingAttempt]) -> None:
        """Submit attempts that were returned, before all others; release them if a shutdown has started."""
        if self.is_accepting:
            self._returned.extendleft(reversed(attempts))
        else:
            self._parts.completion.release_unstarted(attempts)

    def ran(self, seconds: float) -> None:
        """Note the duration of an attempt."""
        mean = self._mean_seconds
        self._mean_seconds = seconds if mean is None else mean * 0.9 + seconds * 0.1

    def mark_leases_lost(self, lease_ids: Sequence[str]) -> None:
        """Mark the attempts of expired leases that are not submitted."""
        for work in self._returned:
            if work.lease_id in lease_ids:
                work.lease_lost = True
        self._parts.consumer.mark_leases_lost(lease_ids)

    def release_unstarted(self) -> None:
        """Stop the consumer, and release all attempts that wait."""
        self._parts.completion.release_unstarted([*self._returned, *self._parts.consumer.stop()])
        self._returned.clear()

    def _is_usable(self, command: Command, first: PendingAttempt) -> bool:
        """Check the command with the first task."""
        self._command = None
        try:
            command.check(first.task_id, first.data)
        except InputError as error:
            self._returned.append(first)
            self._on_unusable_command(str(error))
            return False
        except UNUSABLE_DATA:
            return True
        return True

    def _next_returned(self) -> PendingAttempt | None:
        while self._returned:
            work = self._returned.popleft()
            if not work.lease_lost:
                return work
        return None

    def _expected_seconds(self) -> float | None:
        """Return the expected duration of a task; None before the first has ended.

        It is the mean of the latest ones, or longer while every slot has been busy for longer.
        """
        return None if self._mean_seconds is None else max(self._mean_seconds, self._executor.busy_seconds)

    def _release_surplus(self) -> None:
        self._parts.loop.later(_SURPLUS_INTERVAL, self._release_surplus)
        expected = self._expected_seconds()
        if not self.is_accepting or expected is None:
            return
        surplus = list(self._parts.consumer.take_surplus(expected))
        # Returned attempts wait for a slot, too.
        if self._executor.busy_seconds + expected * len(self._returned) / self._slots > _SURPLUS_INTERVAL:
            surplus += [work for work in self._returned if work.lease_id is not None and not work.lease_lost]
            self._returned = deque(work for work in self._returned if work.lease_id is None)
        if surplus:
            self._parts.log.info(f"Releasing {counted(len(surplus), 'task')} for other workers: no slot is free soon")
            self._parts.completion.release_unstarted(surplus)
