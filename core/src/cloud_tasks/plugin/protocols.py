"""The contracts of a backend: small, synchronous Protocols.

SDKs block, so the controller calls these from threads. Every object here except `TaskSource` is used from several
threads at once and has to allow it. No SDK exception crosses a Protocol: raise `ProviderError` (``transient=True``
where the same call may succeed later), `NotFound`, `LaunchRefused` or `LaunchFailedError`, from the SDK's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

import attrs

from cloud_tasks.model import (
    Event,
    Headroom,
    Image,
    Instance,
    InstanceIdentity,
    InstanceType,
    JobProgress,
    LaunchRequest,
    Offer,
    OfferRequest,
    Region,
    Task,
    TerminationNotice,
    Unpriced,
)

__all__ = [
    "Compute",
    "Delivery",
    "Depth",
    "EventSink",
    "InstanceSide",
    "Pricing",
    "ProgressSink",
    "Queue",
    "SendFailure",
    "TaskSource",
]


@attrs.frozen(kw_only=True)
class SendFailure:
    """One message of a batch that was not sent."""

    index: int
    """Its place in the sequence given to `Queue.send`."""
    reason: str
    transient: bool = True


@attrs.frozen(kw_only=True)
class Delivery:
    """One message, leased to this consumer until the lease ends."""

    lease_id: str
    """Names this lease, not the message: a later delivery of the same message has another."""
    body: bytes
    delivery_count: int | None
    """1 the first time; None where the backend cannot tell."""


@attrs.frozen(kw_only=True)
class Depth:
    """How many messages there are; None where unknown."""

    visible: int | None
    in_flight: int | None
    exact: bool
    """False: a lower bound or an estimate."""
    as_of: datetime
    """UTC."""


class Queue(Protocol):
    """A named, durable queue of opaque messages. Also carries events, under a second name. Thread-safe.

    At-least-once: a message that is not acked comes back after its lease. Sequences may have any length; the
    backend splits them into its own batches and sends those in parallel where that pays.
    """

    def create(self) -> None:
        """Make the queue; does nothing where it exists."""

    def delete(self) -> None:
        """Remove the queue and its messages; does nothing where it does not exist. `create` may follow at once."""

    def purge(self) -> None:
        """Remove all messages, leased ones included. Raises `NotFound`."""

    def exists(self) -> bool:
        """Whether it is there."""

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        """Send messages; returns those that were not sent (empty: all were). Raises only when none was.

        With ``delay`` they appear after it; a backend whose traits say that it has no delay ignores it (workers
        honour the message's own ``not_before`` besides).
        """

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        """Lease up to ``max_messages``; returns as soon as there is one, empty after ``wait``. Raises `NotFound`."""

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        """Remove messages for good; returns the leases that were lost before (their messages may come again)."""

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        """Give messages back, to be delivered again after ``delay``; returns the leases that were lost before."""

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        """Make the leases end ``lease`` from now (at most the traits' longest); returns those that were lost before."""

    def depth(self) -> Depth:
        """How many messages there are. Raises `NotFound`."""

    def close(self) -> None:
        """Send what is buffered, free connections. The object is not used afterwards."""


class Compute(Protocol):
    """Machines of one provider in one region. Thread-safe.

    Never lists or touches instances that this system did not create, unless asked to show them.
    """

    def regions(self) -> Sequence[Region]:
        """All regions, with their zones."""

    def images(self) -> Sequence[Image]:
        """The images that `LaunchRequest.image` may name."""

    def instance_types(self) -> Sequence[InstanceType]:
        """All instance types of the region."""

    def headroom(self, offer: Offer) -> Headroom | None:
        """How many more of these the account's quotas allow; None where that cannot be told."""

    def launch(self, request: LaunchRequest) -> Instance:
        """Start one instance. Idempotent by client token; may return before the instance runs.

        Raises:
            LaunchRefused: Nothing was started; the scope is avoided for a time, another offer is tried at once.
            LaunchFailedError: Nothing was started, and no other offer would help.
            InputError: Nothing was started, because of a setting or the startup script.

        Every other error means that the outcome is unknown: a transient `ProviderError` is retried with the same
        token, and what remains unanswered is decided by the listings.
        """

    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        """The instances of a job (None: of all jobs of this system), complete, or it raises: never a partial list.

        With ``foreign``, which asks for no job, machines that this system did not create are shown as well.
        """

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """End instances and all their remains. Idempotent; unknown ids are no error. Raises when any may remain."""

    def console_log(self, instance_id: str) -> str:
        """What the instance's startup script printed, as far as it can be had; the last 64 KiB at most."""

    def close(self) -> None:
        """Free connections."""


class InstanceSide(Protocol):
    """What a worker asks the machine it runs on. Opened without the controller's SDK."""

    def identity(self) -> InstanceIdentity:
        """Who this machine is, as the listing shows it. Raises `ProviderError` where that cannot be had now."""

    def termination_notice(self) -> TerminationNotice | None:
        """Whether the provider said that it will take this machine away.

        Called about every 5 seconds; an object with an attribute ``notice_interval`` (seconds) is asked that often.
        """


class Pricing(Protocol):
    """Prices of one provider in one region. Thread-safe."""

    def price(self, requests: Sequence[OfferRequest]) -> Sequence[Offer | Unpriced]:
        """One answer per request, in order."""

    def close(self) -> None:
        """Free connections."""


class EventSink(Protocol):
    """Where events go besides the job's database. Called from one thread at a time."""

    def write(self, events: Sequence[Event]) -> None:
        """Take a batch; may buffer. Raises when it could not: the batch is then given again."""

    def flush(self) -> None:
        """Make what was written durable."""

    def close(self) -> None:
        """Flush and free."""


@runtime_checkable
class ProgressSink(Protocol):
    """What an `EventSink` may be besides: told by the controller how the job stands. Workers tell nothing.

    Called from the same thread as `EventSink.write`, at the beginning of a run, about every scaling interval, and once
    when it has ended, whatever its end; a look at which the sink was still busy may be left out, the last never is.
    """

    def progress(self, progress: JobProgress) -> None:
        """Take note. What it raises is logged and has no other consequence; it is not told again."""


class TaskSource(Protocol):
    """Tasks, one after the other, at constant memory. Used by one thread."""

    def __iter__(self) -> Iterator[Task]:
        """Iterate; may be asked for again, and must then yield the same tasks. Raises `InputError` on a broken task."""

    def expected_length(self) -> int | None:
        """How many there are, if that is known without reading them."""
