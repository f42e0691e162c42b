"""`SimulatedWorker`: fulfils the worker's contract with a few heap operations per task.

Invariants, each with a test:

1. The event that ends an attempt is in the event queue before its task is acked; so is the next attempt's message.
2. A message is redelivered after its worker exits, after one lease at most.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from virtual_loop import VirtualLoop

from cloud_tasks.convert import decode_task_message, encode_events, encode_task_message
from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Event, EventType, InstanceType, TaskMessage
from cloud_tasks.plugin import Delivery, Queue
from simulated_cloud.cloud import CloudInstance
from simulated_cloud.faults import Faults
from simulated_cloud.scenario import Scenario

__all__ = ["MEAN_OF_TASKS", "SimulatedWorker", "slowness"]

_POLL = timedelta(seconds=5)
_MAX_POLL = timedelta(seconds=20)
_FLUSH = timedelta(seconds=2)
_MIN_BACKOFF = timedelta(seconds=5)
_MAX_BACKOFF = timedelta(seconds=60)
_RECENT = 1000
_SIGMA = 0.7
MEAN_OF_TASKS = math.exp(_SIGMA**2 / 2)
"""Mean duration of a task as a multiple of the median, `Scenario.mean_task_time`."""
_BROKEN_SPAN = timedelta(milliseconds=10)
"""Duration of a task on a broken instance."""


def slowness(scenario: Scenario, kind: InstanceType, slots: int) -> float:
    """Return by how much the tasks of an instance slow each other down that sustains a share of its CPUs."""
    sustained = kind.vcpus * scenario.faults.money.sustained(kind.name)
    return max(1.0, slots * scenario.constraints.cpus_per_task / sustained)


class SimulatedWorker:
    """The worker of one instance.

    Args:
        tasks: Task queue.
        events: Event queue.
        on_sending: Called before each message to the event queue, with the events in it that were not sent before, the
            body, and the ids of all its events.
        power_off: Terminates the instance when the worker exits.
        skew: Difference of its clock from the true time.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        rng: random.Random,
        scenario: Scenario,
        instance: CloudInstance,
        *,
        faults: Callable[[], Faults],
        tasks: Queue,
        events: Queue,
        on_sending: Callable[[Sequence[Event], bytes, Sequence[str]], None],
        power_off: Callable[[], None],
        skew: timedelta = timedelta(0),
    ) -> None:
        self._loop = loop
        self._rng = rng
        self._scenario = scenario
        self._instance = instance
        self._faults = faults
        self._tasks = tasks
        self._events = events
        self._on_sending = on_sending
        self._power_off = power_off
        self._skew = skew
        self._alive = False
        self._draining = False
        self._is_last_round = False
        """Whether the worker ends when its running tasks are finished."""
        self._unsent: list[tuple[str, bytes]] = []
        self._new_events: list[Event] = []
        self._flushing = False
        self._polling = False
        self._poll_pause = _POLL
        self._count = 0
        self._running: dict[str, TaskMessage] = {}
        self._idle_since = loop.now()
        self.created_at = loop.now()
        self.last_sent = loop.now()
        """Time of the last accepted event message."""
        self.first_sent: datetime | None = None
        """Time of the first accepted event message; None before."""
        self.recent: deque[tuple[datetime, bytes]] = deque(maxlen=_RECENT)
        """The last messages to the event queue, with their times; it need not have accepted all."""
        self.may_have_sent = False
        """Whether the queue may have accepted a message: a call that fails may have taken effect."""

    @property
    def running(self) -> int:
        """Number of running tasks; 0 for a worker that crashed or hangs."""
        return len(self._running) if self._alive else 0

    @property
    def is_healthy(self) -> bool:
        return self._alive

    @property
    def _is_broken(self) -> bool:
        """Whether every task exits at once, because of the instance."""
        return int(self._instance.instance_id.rpartition("-")[2]) <= self._faults().broken_instances

    # -- the instance --------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._alive = True
        self._idle_since = self._loop.now()
        self._send_event(EventType.WORKER_STARTED, slots=self._instance.slots)
        self._poll()
        self._loop.later(self._scenario.keepalive_interval, self._keep_alive)

    def notice(self, left: timedelta) -> None:
        if self._alive and not self._draining:
            self._draining = True
            self._send_event(EventType.SPOT_TERMINATION)
            self._loop.later(left / 2, self._release_all)

    def drain(self) -> None:
        self._is_last_round = True
        if self._alive:
            self._poll()

    def kill(self) -> None:
        """Stop at once; leased messages are redelivered after a lease."""
        if self._alive:
            self._alive = False
            self._abandon()

    def _abandon(self) -> None:
        leases = list(self._running)
        self._running.clear()
        self._tasks.extend(leases, lease=self._scenario.lease)

    # -- tasks -----------------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        self._polling = False
        if not self._alive or self._draining:
            return
        if self._is_last_round:
            if not self._running:
                self._exit()
            return
        free = self._instance.slots - len(self._running)
        if free <= 0:
            return
        try:
            deliveries = self._tasks.receive(free, wait=timedelta(0))
        except ProviderError:
            deliveries = ()
        # Back off while the queue is empty.
        self._poll_pause = _POLL if deliveries else min(self._poll_pause * 2, _MAX_POLL)
        for delivery in deliveries:
            self._start_task(delivery)
        if self._running:
            self._idle_since = self._loop.now()
        elif self._loop.now() - self._idle_since >= self._scenario.idle_limit:
            self._exit()
            return
        if len(self._running) < self._instance.slots:
            self._poll_later(self._poll_pause)

    def _poll_later(self, delay: timedelta) -> None:
        if not self._polling:
            self._polling = True
            self._loop.later(delay, self._poll)

    def _exit(self) -> None:
        self._draining = True
        self._send_event(EventType.WORKER_STOPPED)
        self._loop.later(_FLUSH * 3, self._power_off)

    def _start_task(self, delivery: Delivery) -> None:
        message = decode_task_message(delivery.body)
        now = self._loop.now()
        wait = message.not_before - now.timestamp()
        if wait > 0:
            self._tasks.release([delivery.lease_id], delay=timedelta(seconds=wait))
            return
        if (delivery.delivery_count or 1) - 1 + message.losses > self._scenario.retry.max_losses:
            event = self._event(EventType.TASK_DEAD, message, retry=False, cause="interrupted too often")
            self._conclude(delivery.lease_id, [event], None)
            return
        self._running[delivery.lease_id] = message
        kind, slots = self._instance.offer.instance_type, self._instance.slots
        median = self._scenario.mean_task_time.total_seconds() * slowness(self._scenario, kind, slots)
        span = timedelta(seconds=self._rng.lognormvariate(0, _SIGMA) * median)
        if self._is_broken:
            span = _BROKEN_SPAN
        lease = span + self._scenario.lease
        if self._rng.random() < self._faults().lease_lost:
            lease = span / 2
        self._tasks.extend([delivery.lease_id], lease=lease)
        self._send_soon(self._event(EventType.TASK_STARTED, message))
        self._loop.later(span, lambda: self._end(delivery.lease_id, span))

    def _end(self, lease_id: str, span: timedelta) -> None:
        if not self._alive or lease_id not in self._running:
            return
        faults = self._faults()
        dice = self._rng.random()
        if dice < faults.worker_crashes + faults.worker_hangs:
            self._alive = False
            self._abandon()
            if dice < faults.worker_crashes:
                self._loop.later(timedelta(seconds=5), self._power_off)
            return
        message = self._running[lease_id]
        events, following = self._outcome(message, span)
        self._conclude(lease_id, events, following)

    def _outcome(self, message: TaskMessage, span: timedelta) -> tuple[list[Event], TaskMessage | None]:
        """Return the events that end the attempt, and the message of the next one."""
        scenario, policy = self._scenario, self._scenario.retry
        details: dict[str, Any] = {}
        if self._is_broken:
            return [self._event(EventType.TASK_EXITED, message, retry=False, span=span, exit_code=70)], None
        dice = self._rng.random()
        kind, retry = EventType.TASK_COMPLETED, False
        for probability, failure, retried in (
            (scenario.exception, EventType.TASK_EXCEPTION, policy.on_exception),
            (scenario.timeout, EventType.TASK_TIMED_OUT, policy.on_timeout),
            (scenario.exit, EventType.TASK_EXITED, policy.on_exit),
            (scenario.requests_retry, EventType.TASK_COMPLETED, True),
        ):
            if dice < probability:
                kind, retry = failure, retried
                break
            dice -= probability
        if kind is EventType.TASK_EXCEPTION:
            details = {"exception": "simulated", "exception_type": "ValueError"}
        elif kind is EventType.TASK_EXITED:
            details = {"exit_code": 3}
        if retry and message.attempt >= policy.max_attempts:
            dead = self._event(EventType.TASK_DEAD, message, retry=False, span=span, cause="its attempts ran out")
            return [dead], None
        event = self._event(kind, message, retry=retry, span=span, **details)
        following = None
        if retry:
            following = TaskMessage(task_id=message.task_id, data=message.data, attempt=message.attempt + 1)
        return [event], following

    def _conclude(
        self, lease_id: str, events: list[Event], following: TaskMessage | None, pause: timedelta = _MIN_BACKOFF
    ) -> None:
        """Send the events, then the next attempt's message, then the ack; repeat each until it succeeds."""
        later = min(pause * 2, _MAX_BACKOFF)
        if not self._alive:
            return
        for event in events:
            self._put(event)
        if not self._flush():
            self._loop.later(pause, lambda: self._conclude(lease_id, [], following, later))
            return
        try:
            if following is not None and self._tasks.send([encode_task_message(following)]):
                raise ProviderError("not sent", transient=True)
            following = None
            self._tasks.ack([lease_id])
        except ProviderError:
            self._loop.later(pause, lambda: self._conclude(lease_id, [], following, later))
            return
        self._running.pop(lease_id, None)
        self._poll()

    def _release_all(self) -> None:
        """Release unfinished tasks before the instance is interrupted."""
        if not self._alive:
            return
        for lease_id, message in list(self._running.items()):
            self._put(self._event(EventType.TASK_RELEASED, message, cause="termination notice"))
            self._running.pop(lease_id)
            self._tasks.release([lease_id])
        self._flush()

    # -- events ----------------------------------------------------------------------------------------------------

    def _event(
        self,
        kind: EventType,
        message: TaskMessage | None = None,
        *,
        retry: bool | None = None,
        span: timedelta | None = None,
        **details: Any,
    ) -> Event:
        self._count += 1
        return Event(
            event_id=f"{self._instance.instance_id}/{self._count}",
            event_type=kind,
            timestamp=self._loop.now() + self._skew,
            hostname=f"host-{self._instance.instance_id}",
            instance_id=self._instance.instance_id,
            task_id=None if message is None else message.task_id,
            attempt=None if message is None else message.attempt,
            retry=retry,
            elapsed_time=None if span is None else span.total_seconds(),
            details=details,
        )

    def _send_event(self, kind: EventType, **details: Any) -> None:
        self._put(self._event(kind, **details))
        self._flush()

    def _put(self, event: Event) -> None:
        """Add an event to the next message."""
        self._unsent.append((event.event_id, encode_events([event])[1:-1]))
        self._new_events.append(event)

    def _send_soon(self, event: Event) -> None:
        """Send an event soon, together with others."""
        self._put(event)
        if not self._flushing:
            self._flushing = True
            self._loop.later(_FLUSH, self._flush_soon)

    def _flush_soon(self) -> None:
        self._flushing = False
        if self._alive:
            self._flush()

    def _flush(self) -> bool:
        """Send all unsent events; return whether the queue accepted them."""
        if not self._unsent:
            return True
        body = b"[" + b",".join([text for _, text in self._unsent]) + b"]"
        self._on_sending(self._new_events, body, [event_id for event_id, _ in self._unsent])
        self._new_events = []
        self.may_have_sent = True
        self.recent.append((self._loop.now(), body))
        try:
            if self._events.send([body]):
                return False
        except ProviderError:
            return False
        self._unsent = []
        self.last_sent = self._loop.now()
        self.first_sent = self.first_sent or self.last_sent
        return True

    def _keep_alive(self) -> None:
        if self._alive:
            self._send_event(EventType.KEEP_ALIVE, running_tasks=len(self._running))
            self._loop.later(self._scenario.keepalive_interval, self._keep_alive)
