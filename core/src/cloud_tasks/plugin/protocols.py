"""Protocols that backends implement: small and synchronous.

The controller calls them from threads, since SDKs block. Every object except `TaskSource` and `EventSink` is used by
several threads at once and must be thread-safe. No SDK exception crosses a Protocol: raise `ProviderError`
(``transient=True`` if the same call may succeed later), `NotFoundError`, `LaunchRefusedError` or `LaunchFailedError`
from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

import attrs

from cloud_tasks.model import (
    Architecture,
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
from cloud_tasks.sanitize import as_bytes

__all__ = [
    "Compute",
    "Delivery",
    "Depth",
    "EventSink",
    "ImageLookup",
    "ImageMaker",
    "InstanceSide",
    "LocatedCompute",
    "NoticeTiming",
    "OwnedQueue",
    "Pricing",
    "ProgressSink",
    "Queue",
    "QueueOwner",
    "SendFailure",
    "TaskSource",
]


@attrs.frozen(kw_only=True)
class SendFailure:
    """A message of a batch that was not sent."""

    index: int
    """Index in the sequence passed to `Queue.send`."""
    reason: str
    """One line."""
    transient: bool = True
    """Whether sending the message again may succeed."""


@attrs.frozen(kw_only=True)
class Delivery:
    """A message, leased to one consumer until the lease expires."""

    lease_id: str
    """Identifier of the lease; another delivery of the same message has another one."""
    body: bytes = attrs.field(converter=as_bytes)
    """A value of another type is converted."""
    delivery_count: int | None
    """Number of deliveries of the message, 1 for the first; None if the backend does not count them."""


@attrs.frozen(kw_only=True)
class Depth:
    """Number of messages in a queue; None for unknown."""

    visible: int | None
    """Messages available to consumers."""
    in_flight: int | None
    """Leased messages."""
    exact: bool
    """False for a lower bound or an estimate."""
    as_of: datetime
    """Time of the numbers (UTC)."""


class Queue(Protocol):
    """A named, durable queue of opaque messages, used for tasks and for events. Thread-safe.

    Delivery is at-least-once: a message that is not acked is delivered again after its lease. Sequences may have any
    length; the backend splits them into batches and may send these in parallel.
    """

    def create(self) -> None:
        """Create the queue. Do nothing if it exists."""

    def delete(self) -> None:
        """Delete the queue and its messages. Do nothing if it does not exist. `create` may follow at once."""

    def purge(self) -> None:
        """Remove all messages, including leased ones. Raises `NotFoundError` if the queue does not exist."""

    def exists(self) -> bool:
        """Return whether the queue exists."""

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        """Send messages and return those that were not sent. Raise only if none was sent.

        Args:
            bodies: At most `QueueTraits.max_message_bytes` each.
            delay: Time before the messages become visible. Ignored if the traits have no delay; workers also honour
                the ``not_before`` of a message.
        """

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        """Lease and return up to ``max_messages``, as soon as one is available; none after ``wait``.

        Raises:
            NotFoundError: The queue does not exist.
        """

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        """Delete messages permanently. Return the expired leases, whose messages may be delivered again.

        A lease that was used before is lost, too; an acked one need not be returned.
        """

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        """Return messages to the queue, for delivery after ``delay``. Return the expired leases."""

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        """Extend leases to ``lease`` from now, at most `QueueTraits.max_lease`. Return the expired leases."""

    def depth(self) -> Depth:
        """Return the number of messages. Raises `NotFoundError` if the queue does not exist."""

    def close(self) -> None:
        """Send buffered messages and close connections. The object is not used again."""


@attrs.frozen(kw_only=True)
class QueueOwner:
    """The job of a queue, as the queue records it."""

    job_id: str
    """The job with whose context the queue was created; empty if it is not recorded."""
    controller: str = ""
    """The controller that uses the queue now, such as ``PID 4711``; empty if none does."""


@runtime_checkable
class OwnedQueue(Protocol):
    """A `Queue` that also records its job, and the controller that uses it.

    Without it, two jobs that share a queue by mistake, or a command that deletes the queue of a running job, are found
    by the job's database only.
    """

    def owner(self) -> QueueOwner | None:
        """Return the owner; None if neither a job nor a controller is recorded."""

    def claim(self) -> None:
        """Record this process as the controller that uses the queue, until `Queue.close` or the end of the process.

        Raises:
            ProviderError: Another controller uses the queue; the message names it.
        """


class Compute(Protocol):
    """Instances of one provider in one region. Thread-safe.

    Unmanaged instances, which cloud-tasks did not create, are never changed, and listed on request only.
    """

    def regions(self) -> Sequence[Region]:
        """Return all regions with their zones."""

    def images(self) -> Sequence[Image]:
        """Return the images that `LaunchRequest.image` may name."""

    def instance_types(self) -> Sequence[InstanceType]:
        """Return all instance types of the region."""

    def headroom(self, offer: Offer) -> Headroom | None:
        """Return how many more instances the account's quotas allow; None if unknown."""

    def launch(self, request: LaunchRequest) -> Instance:
        """Launch one instance. Idempotent by client token; may return before the instance runs.

        Raises:
            LaunchRefusedError: No instance was launched. The controller avoids the scope for a time and tries another
                offer at once.
            LaunchFailedError: No instance was launched, and no other offer would help.
            InputError: No instance was launched, because of a setting or the startup script.

        After any other error the outcome is unknown: the controller retries a transient `ProviderError` with the same
        token, and otherwise finds the instance in the listings.
        """

    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        """Return the complete listing of instances; raise instead of returning a partial one.

        Args:
            job_id: Restrict to this job; None for all jobs of cloud-tasks.
            include_terminated: Include instances that still appear after their termination.
            foreign: Include unmanaged instances, with an empty `Instance.job_id`; only without ``job_id``.
        """

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """Terminate instances and delete their resources. Idempotent; ignores unknown ids. Raise if any may remain."""

    def console_log(self, instance_id: str) -> str:
        """Return the available output of the startup script, at most the last 64 KiB."""

    def close(self) -> None:
        """Close connections."""


@runtime_checkable
class ImageLookup(Protocol):
    """A `Compute` that also describes an image before the first launch.

    Without it, a boot disk that is smaller than its image is found by a refused launch, or costs more than was planned.
    """

    def find_image(self, name: str | None, architecture: Architecture) -> Image | None:
        """Return the image that `LaunchRequest.image` names; None if it cannot be described.

        Args:
            name: None for the default image of the architecture.

        Raises:
            InputError: No such image exists for the architecture.
        """


@runtime_checkable
class ImageMaker(Protocol):
    """A `Compute` that also makes images of its instances, for ``cloud-tasks image build``."""

    def find_own_image(self, name: str) -> str | None:
        """Return the value of `LaunchRequest.image` for an image that `make_image` has completed; None without one.

        Args:
            name: At most 40 characters of ``[a-z0-9-]``, first a letter.
        """

    def make_image(self, instance_id: str, name: str) -> str:
        """Make an image of the boot disk of an instance, and return its value of `LaunchRequest.image`.

        Returns when instances can be launched from it, in all zones of the region. May stop the instance, which the
        caller terminates. The image carries the label of cloud-tasks. An image of this name that exists is returned.

        Raises:
            ProviderError: The image was not made; what is left of it was deleted.
        """


@runtime_checkable
class LocatedCompute(Protocol):
    """A `Compute` that needs the zone of an instance to find it without a listing.

    Backends whose calls take the id alone do not need this.
    """

    def note_zones(self, zones: Mapping[str, str]) -> None:
        """Note the zones that a job's records have for instances, by instance id, or by client token if it is unknown.

        `Compute.terminate` then deletes these instances without a listing, and `Compute.instances` raises if one of
        these zones does not answer.
        """


class InstanceSide(Protocol):
    """The instance as seen by its worker. Opened without the controller's SDK."""

    def identity(self) -> InstanceIdentity:
        """Return the instance's identity, as in the listing. Raises `ProviderError` if it is not available."""

    def termination_notice(self) -> TerminationNotice | None:
        """Return the provider's termination notice, such as a spot interruption notice; None without one.

        Called every 5 seconds, or as `NoticeTiming` determines.
        """


@runtime_checkable
class NoticeTiming(Protocol):
    """An `InstanceSide` that determines how often it is asked for a notice: more or less often than every 5 seconds.

    A provider that many workers would overload, such as a batch scheduler, is asked less often; one whose notice
    precedes the end by seconds only, more often.
    """

    @property
    def notice_interval(self) -> float | timedelta | None:
        """Time between two calls of `InstanceSide.termination_notice`, in seconds; None: it is never called."""


class Pricing(Protocol):
    """Prices of one provider in one region. Thread-safe."""

    def price(self, requests: Sequence[OfferRequest]) -> Sequence[Offer | Unpriced]:
        """Return one answer per request, in order."""

    def close(self) -> None:
        """Close connections."""


class EventSink(Protocol):
    """A receiver of copies of events, besides the job's database. Called from one thread at a time."""

    def write(self, events: Sequence[Event]) -> None:
        """Accept a batch, and maybe buffer it. Raise if it was not accepted; the same batch is then written again."""

    def flush(self) -> None:
        """Make written events durable."""

    def close(self) -> None:
        """Flush and release resources."""


@runtime_checkable
class ProgressSink(Protocol):
    """An `EventSink` that also receives the job's progress, from the controller only.

    Called from the same thread as `EventSink.write`: at the start of a run, after about every scaling check, and once
    at its end. Calls may be skipped while the sink is busy, except the last.
    """

    def progress(self, progress: JobProgress) -> None:
        """Accept the progress. Exceptions are logged and otherwise ignored; the call is not repeated."""


class TaskSource(Protocol):
    """A stream of tasks at constant memory. Used by one thread."""

    def __iter__(self) -> Iterator[Task]:
        """Yield the tasks, the same in every iteration. Raises `InputError` for an invalid task."""

    def expected_length(self) -> int | None:
        """Return the number of tasks if it is known without reading them."""
