"""Queue under test, and the fixtures of its contract."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import attrs
import pytest

from cloud_tasks.plugin import Delivery, NoSettings, Queue, QueueBackend, QueueContext, QueueTraits
from cloud_tasks.testing.contracts.contract import sleep

__all__ = [
    "AT_ONCE",
    "Delay",
    "OpenConsumer",
    "QueueFixtures",
    "QueueSubject",
    "Receive",
    "call_method",
    "long_lease",
    "receive_all",
    "receive_up_to",
    "require_depth_if_exact",
]

Receive = Callable[[], Delivery]
OpenConsumer = Callable[[], Queue]
AT_ONCE = timedelta(0)
_STEM = "contract-job-with-a-name-of-the-longest-length-that-queues-take"
"""Longest start of the names of a job's queues."""


@attrs.frozen(kw_only=True)
class QueueSubject:
    """A queue backend under test. Objects opened from one subject with one name share a queue."""

    backend: QueueBackend
    """Descriptor of the backend, found like an installed plugin: ``Registry(only=[\'name\'])``."""
    settings: Any = attrs.field(factory=NoSettings)
    """Settings of the backend."""
    lease: timedelta = timedelta(seconds=1)
    """A short lease that the backend supports; tests wait for its expiry."""
    advance: Callable[[timedelta], None] = sleep
    """Let time pass for the backend; use the backend's clock if it can be set."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    """Return the time by the clock of `Depth.as_of`, UTC."""
    patience: timedelta = timedelta(seconds=20)
    """Time limit for receiving an available message."""
    region: str | None = None
    """Region in which the backend is opened."""
    many: int = 1500
    """Number of messages that are leased at the same time: one for each running task of a large job."""
    restart: Callable[[], None] | None = None
    """Restart the server, and return when it answers; None: the backend has no server that a test can restart."""
    unreachable: Any = None
    """Settings with the address of a server that does not answer; None: the backend has no server."""
    refused: Any = None
    """Settings with credentials that the server refuses; None: the backend has none."""

    @property
    def traits(self) -> QueueTraits:
        """Traits of the backend."""
        return self.backend.traits

    def context(self, name: str, *, lease: timedelta | None = None) -> QueueContext:
        """Return the parameters of opening the queue of this name, with the short lease by default."""
        return QueueContext(job_id="contract", name=name, lease=lease or self.lease, region=self.region)

    def open(self, name: str, *, lease: timedelta | None = None) -> AbstractContextManager[Queue]:
        """Open the queue of this name."""
        return self.backend.open(self.settings, self.context(name, lease=lease))


def long_lease(subject: QueueSubject) -> timedelta:
    """Return a lease that does not end during a test."""
    return min(subject.lease * 60, subject.traits.max_lease)


def call_method(queue: Queue, method: str, lease_ids: Iterable[str], *, lease: timedelta) -> Sequence[str]:
    """Call `Queue.ack`, `Queue.release` or `Queue.extend`."""
    ids = list(lease_ids)
    return queue.extend(ids, lease=lease) if method == "extend" else getattr(queue, method)(ids)


def receive_up_to(queue: Queue, count: int, patience: timedelta) -> list[Delivery]:
    """Receive until ``count`` messages have arrived, or none for ``patience``."""
    received: list[Delivery] = []
    arrived_at = time.monotonic()
    while len(received) < count and time.monotonic() - arrived_at < patience.total_seconds():
        if deliveries := queue.receive(count - len(received), wait=min(patience, timedelta(seconds=0.2))):
            received += deliveries
            arrived_at = time.monotonic()
    return received


def receive_all(queue: Queue, count: int, patience: timedelta) -> list[Delivery]:
    """Receive ``count`` messages; fail without them, with the depth of the queue."""
    received = receive_up_to(queue, count, patience)
    if len(received) < count:
        missing = f"received {len(received)} of {count} messages; no other within {patience.total_seconds():g} s"
        pytest.fail(f"{missing}; {_depth_text(queue)}")
    return received


def require_depth_if_exact(queue: Queue, visible: int, in_flight: int) -> None:
    """Assert the depth of a queue that counts its messages exactly."""
    depth = queue.depth()
    if depth.exact:
        assert (depth.visible, depth.in_flight) == (visible, in_flight)


class Delay:
    """A delay of messages, from its construction on."""

    _LAST = timedelta(seconds=5)

    def __init__(self, subject: QueueSubject) -> None:
        self._subject = subject
        self._began_at = time.monotonic()
        self.asked = subject.lease * 2
        self.granted = min(self.asked, subject.traits.delay)

    def received_after_it(self, queue: Queue, count: int) -> list[Delivery]:
        """Let the delay pass and receive ``count`` messages; fail if some arrive shortly before its end."""
        received: list[Delivery] = []
        if self.granted:
            rest = min(self._LAST, self.granted / 2)
            self._subject.advance(self.granted - rest)
            received += queue.receive(count, wait=AT_ONCE)
            # On a slow machine, the delay may have ended.
            late = time.monotonic() - self._began_at >= self.granted.total_seconds()
            assert late or not received, f"{len(received)} messages arrived {rest} before the end of their delay"
            self._subject.advance(rest)
        return received + receive_all(queue, count - len(received), self._subject.patience)


def _depth_text(queue: Queue) -> str:
    try:
        depth = queue.depth()
    except Exception as error:  # the missing message is the failure to report
        return f"the depth is not available: {error!r}"
    return f"depth: {depth.visible} visible, {depth.in_flight} in flight, exact: {depth.exact}"


class QueueFixtures:
    """Fixtures of the queue contract."""

    @pytest.fixture
    def name(self) -> str:
        """Name of a job's task queue, as long as they can be."""
        return f"{_STEM}-{uuid4().hex[:16]}-1"

    @pytest.fixture
    def consumers(self, subject: QueueSubject, name: str) -> Iterator[OpenConsumer]:
        """Return a function that opens further consumers of the queue, as other processes would."""
        with ExitStack() as stack:
            yield lambda: stack.enter_context(subject.open(name))

    @pytest.fixture
    def queue(self, subject: QueueSubject, name: str) -> Iterator[Queue]:
        with subject.open(name) as queue:
            queue.create()
            yield queue
            queue.delete()

    @pytest.fixture
    def one(self, queue: Queue, subject: QueueSubject) -> Receive:
        """Return a function that receives one message, and fails without one."""
        return lambda: receive_all(queue, 1, subject.patience)[0]
