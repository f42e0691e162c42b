"""Compute backend under test, and the fixtures of its contract."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import attrs
import pytest

from cloud_tasks.errors import RefusalScope
from cloud_tasks.model import Instance, InstanceState, LaunchRequest, Offer
from cloud_tasks.plugin import Compute, ComputeBackend, ComputeContext, ComputeTraits, NoSettings
from cloud_tasks.testing.contracts.contract import eventually, sleep

__all__ = [
    "ComputeFixtures",
    "ComputeSubject",
    "InstanceWaiter",
    "Launch",
    "Refusal",
    "RequestFactory",
    "described",
    "live",
    "require_consistent_times",
    "times_are_those_of_the_test",
]

_TOKEN_LENGTH = 25
_OWNER = "contract-" + "o" * 54
"""The longest owner of a launch."""
_EXPIRES = 2_000_000_000
_CLOCK_PRECISION = timedelta(seconds=2)

RequestFactory = Callable[..., LaunchRequest]
Launch = Callable[[LaunchRequest], Instance]
InstanceWaiter = Callable[[int], list[Instance]]


@attrs.frozen(kw_only=True)
class Refusal:
    """A launch that the backend must refuse."""

    request: Callable[[LaunchRequest], LaunchRequest]
    """Return the request, given an acceptable one; may also prepare the backend."""
    scope: RefusalScope
    """Scope of the refusal."""


@attrs.frozen(kw_only=True)
class ComputeSubject:
    """A compute backend under test. All objects opened from one subject share their instances."""

    backend: ComputeBackend
    """Descriptor of the backend, found like an installed plugin: ``Registry(only=[\'name\'])``."""
    offer: Offer
    """A small offer that can be launched."""
    settings: Any = attrs.field(factory=NoSettings)
    """Settings of the backend."""
    region: str | None = None
    """Region in which the backend is opened."""
    script: str = "#!/bin/bash\necho contract-marker\nwhile true; do sleep 1; done\n"
    """Script that prints ``contract-marker`` and runs until it is terminated."""
    runs_scripts: bool = True
    """Whether instances run their script; False for a simulation without consoles."""
    many: int = 5
    """Number of instances of a long listing: more than one page if the provider has pages."""
    foreign: Callable[[], str] | None = None
    """Start an unmanaged instance and return its id."""
    end_foreign: Callable[[str], object] | None = None
    """End an unmanaged instance, after the test."""
    refusals: tuple[Refusal, ...] = ()
    """Launches that the backend must refuse, where they can be provoked."""
    advance: Callable[[timedelta], None] = sleep
    """Let time pass for the backend."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    """Return the time by the clock of the backend, UTC."""
    lifetime: timedelta = timedelta(seconds=1)
    """Maximum lifetime that the backend enforces, if it enforces any."""
    patience: timedelta = timedelta(seconds=20)
    """Time limit for each wait."""
    unreachable: Any = None
    """Settings with the address of a provider that does not answer; None: the backend calls no service."""
    refused: Any = None
    """Settings with credentials that the provider refuses; None: the backend has none."""

    @property
    def traits(self) -> ComputeTraits:
        """Traits of the backend."""
        return self.backend.traits

    def context(self, job_id: str) -> ComputeContext:
        """Return the parameters of opening the backend for a job."""
        return ComputeContext(job_id=job_id, region=self.region, zone=self.offer.zone)

    def open(self, job_id: str) -> AbstractContextManager[Compute]:
        """Open the backend as a controller of this job does."""
        return self.backend.open(self.settings, self.context(job_id))


def described(instances: Sequence[Instance]) -> str:
    """Return ids, states and reasons for the message of a failed test."""
    texts = [f"{each.instance_id} {each.state.value}{f' ({each.reason})' if each.reason else ''}" for each in instances]
    return ", ".join(texts) or "no instances"


def live(compute: Compute, job: str) -> Sequence[Instance]:
    """Return the listing of a job, after a check of what must hold for any."""
    found = compute.instances(job)
    for instance in found:
        assert instance.job_id == job, instance
        assert instance.state is not InstanceState.TERMINATED, f"listed without include_terminated: {instance}"
        require_consistent_times(instance)
    return found


def require_consistent_times(instance: Instance) -> None:
    """Assert that the times of an instance have an order that its state allows."""
    times = _times(instance)
    assert all(time.tzinfo is not None for _, time in times), f"time without a zone: {instance}"
    for (earlier, first), (later, second) in itertools.pairwise(times):
        assert first <= second, f"{later} is before {earlier}: {instance}"
    if instance.state is InstanceState.PENDING:
        assert instance.started_at is None, f"pending, with started_at: {instance}"
    if instance.state is not InstanceState.TERMINATED:
        assert instance.ended_at is None, f"not terminated, with ended_at: {instance}"
    assert "\n" not in instance.reason, f"reason of several lines: {instance.reason!r}"


@contextmanager
def times_are_those_of_the_test(subject: ComputeSubject, seen: list[Instance]) -> Iterator[None]:
    """Assert that the times of the instances in ``seen`` are between the start and the end of the context."""
    earliest = subject.now() - _CLOCK_PRECISION
    yield
    latest = subject.now() + _CLOCK_PRECISION
    for instance in seen:
        for name, time in _times(instance):
            assert earliest <= time <= latest, f"{name} is not between {earliest} and {latest}: {instance}"


def _times(instance: Instance) -> list[tuple[str, datetime]]:
    named = (("created_at", instance.created_at), ("started_at", instance.started_at), ("ended_at", instance.ended_at))
    return [(name, time) for name, time in named if time is not None]


class ComputeFixtures:
    """Fixtures of the compute contract."""

    @pytest.fixture
    def job(self) -> str:
        """Id of a job; with ``-other``, it has the maximum length."""
        return f"contract-{uuid4().hex[:9]}"

    @pytest.fixture
    def compute(self, subject: ComputeSubject, job: str) -> Iterator[Compute]:
        with subject.open(job) as compute:
            yield compute
            for each in (job, job + "-other"):
                compute.terminate([instance.instance_id for instance in compute.instances(each)])

    @pytest.fixture
    def request_of(self, subject: ComputeSubject, job: str) -> RequestFactory:
        """Return a factory of launch requests with unique tokens and labels."""
        stem = uuid4().hex[:_TOKEN_LENGTH]
        numbers = itertools.count()

        def make(**changes: Any) -> LaunchRequest:
            # Only the last characters differ.
            number = next(numbers)
            request = LaunchRequest(
                client_token=f"{stem[:-2]}{number:02}",
                job_id=job,
                offer=subject.offer,
                startup_script=subject.script,
                labels={"run": stem[:16], "owner": _OWNER, "expires": str(_EXPIRES + number)},
            )
            return attrs.evolve(request, **changes)

        return make

    @pytest.fixture
    def launch(self, compute: Compute, subject: ComputeSubject, job: str) -> Launch:
        """Return a function that launches an instance, as soon as the provider takes another pending one."""

        def pending() -> list[str]:
            jobs = (job, job + "-other")
            states = [(each.instance_id, each.state) for name in jobs for each in compute.instances(name)]
            return [instance_id for instance_id, state in states if state is InstanceState.PENDING]

        def launch(request: LaunchRequest) -> Instance:
            most = subject.traits.max_pending
            if most is not None:
                eventually(pending, lambda waiting: len(waiting) < most, patience=subject.patience)
            return compute.launch(request)

        return launch

    @pytest.fixture
    def unmanaged(self, subject: ComputeSubject) -> Iterator[str | None]:
        """Return the id of an unmanaged instance; None if the subject cannot start one."""
        instance_id = subject.foreign() if subject.foreign is not None else None
        yield instance_id
        if instance_id is not None and subject.end_foreign is not None:
            subject.end_foreign(instance_id)

    @pytest.fixture
    def listed(self, compute: Compute, subject: ComputeSubject, job: str) -> InstanceWaiter:
        """Return a function that waits for a number of live instances of the job and returns them."""

        def wait_for(count: int) -> list[Instance]:
            return eventually(
                lambda: [instance for instance in live(compute, job) if instance.is_alive],
                lambda found: len(found) >= count,
                patience=subject.traits.listing_lag + subject.patience,
                show=described,
            )

        return wait_for

    @pytest.fixture
    def all_ended(self, compute: Compute, subject: ComputeSubject, job: str) -> Callable[[], object]:
        """Return a function that waits until no instance of the job is alive."""
        return lambda: eventually(
            lambda: live(compute, job),
            lambda found: not any(instance.is_alive for instance in found),
            patience=subject.patience,
            show=described,
        )
