"""Backends in memory pass the contracts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from contract_subjects import ConsoleCompute, compute_subject
from file_side import FileSide, side_subject
from setup_account import AccountItems, setup_subject
from signed_store import SignedStaging, staging_subject

from cloud_tasks.convert import event_to_json
from cloud_tasks.errors import InputError, RefusalScope
from cloud_tasks.model import (
    BootDisk,
    Event,
    InstanceState,
    LaunchRequest,
    Offer,
    OfferRequest,
    ProvisioningModel,
    Task,
)
from cloud_tasks.plugin import (
    EventSink,
    EventSinkBackend,
    EventSinkContext,
    QueueTraits,
    Reach,
    TaskSource,
    TaskSourceBackend,
    TaskSourceContext,
)
from cloud_tasks.testing import (
    ComputeContract,
    ComputeSubject,
    EventSinkContract,
    EventSinkSubject,
    InstanceSideContract,
    InstanceSideSubject,
    PricingContract,
    PricingSubject,
    QueueContract,
    QueueSubject,
    Refusal,
    SetupContract,
    SetupSubject,
    StagingContract,
    StagingSubject,
    TaskSourceContract,
    TaskSourceSubject,
)
from cloud_tasks.testing.fakes.memory import MemoryProvider
from cloud_tasks.testing.fakes.memory_compute import MemoryCompute


def offers(provider: MemoryProvider) -> list[OfferRequest]:
    return [
        OfferRequest(
            instance_type=each,
            zone=zone,
            provisioning_model=provisioning_model,
            boot_disk=BootDisk(disk_type="", size_gb=10),
        )
        for each, zone, provisioning_model in itertools.product(
            provider.instances.types, provider.instances.region.zones, ProvisioningModel
        )
    ]


class TestMemoryQueue(QueueContract):
    @pytest.fixture
    def subject(self) -> QueueSubject:
        provider = MemoryProvider()
        clock = provider.clock
        return QueueSubject(backend=provider.queue, lease=timedelta(seconds=30), advance=clock.advance, now=clock)


class TestMemoryQueueOfFewAbilities(QueueContract):
    """A queue without delays, delivery counts and exact depth, as its traits declare."""

    @pytest.fixture
    def subject(self) -> QueueSubject:
        traits = QueueTraits(max_lease=timedelta(minutes=10), max_message_bytes=1024, receive_batch=1, send_batch=3)
        provider = MemoryProvider(queue_traits=traits, exact_depth=False)
        clock = provider.clock
        return QueueSubject(backend=provider.queue, lease=timedelta(seconds=30), advance=clock.advance, now=clock)


class TestMemoryCompute(ComputeContract):
    missing_listings = 0

    @pytest.fixture
    def subject(self) -> ComputeSubject:
        provider = MemoryProvider(missing_listings=self.missing_listings)
        with provider.pricing.open(None, None) as pricing:  # type: ignore[arg-type]  # it has no context
            (offer,) = pricing.price(offers(provider)[:1])
        assert isinstance(offer, Offer)

        def exhausted(request: LaunchRequest) -> LaunchRequest:
            provider.instances.exhausted_zones.add("memory-b")
            return attrs.evolve(request, offer=attrs.evolve(request.offer, zone="memory-b"))

        return ComputeSubject(
            backend=provider.compute,
            offer=offer,
            runs_scripts=False,
            foreign=provider.instances.start_unmanaged,
            refusals=(Refusal(request=exhausted, scope=RefusalScope.ZONE),),
            advance=provider.clock.advance,
            now=provider.clock,
        )


class TestMemoryComputeWithALaggingListing(TestMemoryCompute):
    missing_listings = 3


class TestMemoryComputeOfAScheduler(ComputeContract):
    """Instances that wait, one at a time."""

    @pytest.fixture
    def subject(self) -> ComputeSubject:
        provider = MemoryProvider(pending_listings=2, max_pending=1)
        return attrs.evolve(compute_subject(MemoryCompute, provider), patience=timedelta(seconds=20))


class LocalCompute(ConsoleCompute):
    """Instances that share the controller's files."""

    def environment(self, request: LaunchRequest) -> dict[str, str]:
        return super().environment(request) | {"CLOUD_TASKS_SUBMIT_DIR": str(Path.cwd())}


class TestComputeWithConsoles(ComputeContract):
    @pytest.fixture
    def subject(self) -> ComputeSubject:
        subject = compute_subject(LocalCompute, location=Reach.MACHINE, delivers_secrets=True)
        return attrs.evolve(subject, patience=timedelta(seconds=20))


class TestFileSide(InstanceSideContract):
    @pytest.fixture
    def subject(self) -> InstanceSideSubject:
        return attrs.evolve(side_subject(FileSide), patience=timedelta(seconds=20))


def test_memory_compute_shows_an_instance_late_then_starting_then_running() -> None:
    provider = MemoryProvider(missing_listings=2, starting_listings=3)
    with provider.pricing.open(None, None) as pricing:  # type: ignore[arg-type]  # it has no context
        (offer,) = pricing.price(offers(provider)[:1])
    assert isinstance(offer, Offer)
    request = LaunchRequest(client_token="t", job_id="job", offer=offer, startup_script="", labels={})
    with provider.compute.open(None, None) as compute:  # type: ignore[arg-type]  # it has no context
        assert compute.launch(request).state is InstanceState.STARTING
        states = [[instance.state for instance in compute.instances("job")] for _ in range(7)]
    starting, running = [InstanceState.STARTING], [InstanceState.RUNNING]
    assert states == [[], [], starting, starting, starting, running, running]


class TestMemoryPricing(PricingContract):
    @pytest.fixture
    def subject(self) -> PricingSubject:
        provider = MemoryProvider()
        requests = offers(provider)
        unknown = attrs.evolve(requests[0], instance_type=attrs.evolve(requests[0].instance_type, name="memory-4096"))
        return PricingSubject(backend=provider.pricing, requests=requests, unpriced=unknown)


class LinesSink:
    """A simple event sink, as a plugin author might write it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, events: Sequence[Event]) -> None:
        self._file.writelines(json.dumps(event_to_json(event)) + "\n" for event in events)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TestLinesSink(EventSinkContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> EventSinkSubject:
        path = tmp_path / "events.jsonl"

        @contextmanager
        def open_sink(settings: Any, context: EventSinkContext) -> Iterator[EventSink]:
            sink = LinesSink(path)
            yield sink
            sink.close()

        def read_back() -> list[Mapping[str, Any]]:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

        backend = EventSinkBackend(name="lines", summary="A file", open=open_sink)
        return EventSinkSubject(backend=backend, read_back=read_back)


class CountedTasks:
    def __init__(self, count: int) -> None:
        self._count = count

    def __iter__(self) -> Iterator[Task]:
        return (Task(task_id=f"task-{number}", data={"number": number}) for number in range(self._count))

    def expected_length(self) -> int:
        return self._count


class TestCountedTasks(TaskSourceContract):
    @pytest.fixture
    def subject(self) -> TaskSourceSubject:
        @contextmanager
        def open_source(settings: Any, context: TaskSourceContext) -> Iterator[TaskSource]:
            if not context.location.isdigit():
                raise InputError("not a count", where=context.location)
            yield CountedTasks(int(context.location))

        return TaskSourceSubject(
            backend=TaskSourceBackend(name="counted", summary="Numbers", open=open_source),
            context=TaskSourceContext(location="3"),
            expected=[Task(task_id=f"task-{number}", data={"number": number}) for number in range(3)],
            broken=[TaskSourceContext(location="three")],
        )


class TestAccountItems(SetupContract):
    @pytest.fixture
    def subject(self) -> SetupSubject:
        return setup_subject(AccountItems)


class TestSignedStaging(StagingContract):
    @pytest.fixture
    def subject(self) -> StagingSubject:
        return staging_subject(SignedStaging)
