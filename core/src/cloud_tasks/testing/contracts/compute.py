"""Contract of compute backends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import attrs
import pytest

from cloud_tasks.errors import LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import Instance, LaunchRequest, Offer, ProvisioningModel
from cloud_tasks.plugin import CheckContext, Compute, ComputeBackend, ComputeContext, ComputeTraits, NoSettings
from cloud_tasks.testing.contracts.contract import Contract, eventually, require_no_obstacle
from cloud_tasks.testing.fakes.faults import Fault, When, inject

__all__ = ["ComputeContract", "ComputeSubject", "Refusal"]

RequestFactory = Callable[..., LaunchRequest]
InstanceWaiter = Callable[[int], list[Instance]]


@attrs.frozen(kw_only=True)
class Refusal:
    """A launch that the backend must refuse."""

    request: Callable[[LaunchRequest], LaunchRequest]
    """Return the request, given an acceptable one; may also prepare the backend."""
    scope: RefusalScope


def _sleep(duration: timedelta) -> None:
    time.sleep(duration.total_seconds())


@attrs.frozen(kw_only=True)
class ComputeSubject:
    """A compute backend under test. All objects opened from one subject share their instances."""

    backend: ComputeBackend
    offer: Offer
    """A small offer that can be launched."""
    settings: Any = attrs.field(factory=NoSettings)
    region: str | None = None
    script: str = "#!/bin/bash\necho contract-marker\nwhile true; do sleep 1; done\n"
    """Script that prints ``contract-marker`` and runs until it is terminated."""
    runs_scripts: bool = True
    """Whether instances run their script; False for a simulation without consoles."""
    many: int = 5
    """Number of instances of a long listing: more than one page if the provider has pages."""
    foreign: Callable[[], str] | None = None
    """Start an unmanaged instance and return its id."""
    refusals: tuple[Refusal, ...] = ()
    advance: Callable[[timedelta], None] = _sleep
    """Let time pass for the backend."""
    lifetime: timedelta = timedelta(seconds=1)
    """Maximum lifetime that the backend enforces, if it enforces any."""
    patience: timedelta = timedelta(seconds=20)
    """Time limit for each wait."""

    @property
    def traits(self) -> ComputeTraits:
        return self.backend.traits

    def open(self, job_id: str) -> AbstractContextManager[Compute]:
        return self.backend.open(self.settings, ComputeContext(job_id=job_id, region=self.region, zone=self.offer.zone))


class ComputeContract(Contract):
    """Idempotent launches, complete listings, thorough terminations; see `cloud_tasks.plugin.Compute`."""

    @pytest.fixture
    def job(self) -> str:
        return f"contract-{uuid4().hex[:8]}"

    @pytest.fixture
    def compute(self, subject: ComputeSubject, job: str) -> Iterator[Compute]:
        with subject.open(job) as compute:
            yield compute
            for each in (job, job + "-other"):
                compute.terminate([instance.instance_id for instance in compute.instances(each)])

    @pytest.fixture
    def request_of(self, subject: ComputeSubject, job: str) -> RequestFactory:
        """Return a factory of launch requests with unique tokens."""

        def make(**changes: Any) -> LaunchRequest:
            request = LaunchRequest(
                client_token=uuid4().hex,
                job_id=job,
                offer=subject.offer,
                startup_script=subject.script,
                labels={"run": "run-1", "owner": "contract"},
            )
            return attrs.evolve(request, **changes)

        return make

    @pytest.fixture
    def listed(self, compute: Compute, subject: ComputeSubject, job: str) -> InstanceWaiter:
        """Return a function that waits for a number of live instances of the job and returns them."""

        def wait_for(count: int) -> list[Instance]:
            found: list[Instance] = []

            def complete() -> bool:
                found[:] = [instance for instance in compute.instances(job) if instance.is_alive]
                return len(found) >= count

            eventually(complete, patience=subject.traits.listing_lag + subject.patience)
            return found

        return wait_for

    # Regions, types, images

    def test_regions_have_names_and_zones(self, compute: Compute, subject: ComputeSubject) -> None:
        regions = compute.regions()
        assert len({region.name for region in regions}) == len(regions) > 0
        assert subject.offer.zone in {zone for region in regions for zone in region.zones}

    def test_instance_types_are_described(self, compute: Compute, subject: ComputeSubject) -> None:
        types = compute.instance_types()
        assert subject.offer.instance_type.name in {each.name for each in types}
        assert len({each.name for each in types}) == len(types)
        assert all(each.vcpus >= 1 and each.memory_gb > 0 and each.zones for each in types)

    def test_images_have_unique_names(self, compute: Compute) -> None:
        images = compute.images()
        assert len({(image.name, image.architecture, image.owner) for image in images}) == len(images) > 0

    # Launching

    def test_check_launch_accepts_a_request_that_can_be_launched(
        self, subject: ComputeSubject, request_of: RequestFactory
    ) -> None:
        if subject.backend.check_launch is not None:
            subject.backend.check_launch(subject.settings, request_of())

    def test_launch_is_listed_as_requested(
        self, compute: Compute, subject: ComputeSubject, request_of: RequestFactory, listed: InstanceWaiter
    ) -> None:
        request = request_of()
        launched = compute.launch(request)
        (instance,) = listed(1)
        assert instance.instance_id == launched.instance_id
        assert instance.job_id == request.job_id
        assert instance.instance_type == subject.offer.instance_type.name
        assert instance.zone == subject.offer.zone
        assert instance.provisioning_model is subject.offer.provisioning_model
        assert instance.created_at.tzinfo is not None
        assert instance.client_token in ("", request.client_token)
        assert dict(request.labels).items() <= dict(instance.labels).items()

    def test_launch_repeated_with_one_token_starts_one_instance(
        self, compute: Compute, subject: ComputeSubject, job: str, request_of: RequestFactory, listed: InstanceWaiter
    ) -> None:
        request = request_of()
        first = compute.launch(request)
        with subject.open(job) as after_a_crash:
            again = after_a_crash.launch(request)
        assert again.instance_id == first.instance_id
        assert len(listed(1)) == 1

    def test_calls_can_be_repeated_after_a_lost_answer(
        self, compute: Compute, subject: ComputeSubject, job: str, request_of: RequestFactory, listed: InstanceWaiter
    ) -> None:
        first = frozenset({1})
        faults = [Fault(method=name, calls=first, when=When.AFTER) for name in ("launch", "terminate")]
        unreliable = inject(compute, faults)
        request = request_of()
        with pytest.raises(ProviderError):
            unreliable.launch(request)
        instance = unreliable.launch(request)
        assert [each.instance_id for each in listed(1)] == [instance.instance_id]
        with pytest.raises(ProviderError):
            unreliable.terminate([instance.instance_id])
        unreliable.terminate([instance.instance_id])
        eventually(lambda: not any(each.is_alive for each in compute.instances(job)), patience=subject.patience)

    def test_launch_concurrent_with_one_token_starts_one_instance(
        self, compute: Compute, request_of: RequestFactory, listed: InstanceWaiter
    ) -> None:
        request = request_of()
        with ThreadPoolExecutor(4) as threads:
            ids = {instance.instance_id for instance in threads.map(compute.launch, [request] * 4)}
        assert {instance.instance_id for instance in listed(1)} == ids
        assert len(ids) == 1

    def test_launch_of_a_spot_instance_is_listed_as_spot(
        self, compute: Compute, subject: ComputeSubject, request_of: RequestFactory, listed: InstanceWaiter
    ) -> None:
        provisioning_model = ProvisioningModel.SPOT if subject.traits.spot else ProvisioningModel.ON_DEMAND
        compute.launch(request_of(offer=attrs.evolve(subject.offer, provisioning_model=provisioning_model)))
        assert [instance.provisioning_model for instance in listed(1)] == [provisioning_model]

    def test_launch_refusal_has_scope_and_retry_time(
        self, compute: Compute, subject: ComputeSubject, job: str, request_of: RequestFactory
    ) -> None:
        for refusal in subject.refusals:
            with pytest.raises(LaunchRefusedError) as refused:
                compute.launch(refusal.request(request_of()))
            assert refused.value.scope is refusal.scope
            assert refused.value.retry_after > timedelta(0)
            assert refused.value.reason
        assert list(compute.instances(job)) == []

    def test_instance_terminates_after_max_lifetime_if_supported(
        self, compute: Compute, subject: ComputeSubject, job: str, request_of: RequestFactory, listed: InstanceWaiter
    ) -> None:
        compute.launch(request_of(max_lifetime=subject.lifetime if subject.traits.enforces_max_lifetime else None))
        if subject.traits.enforces_max_lifetime:
            subject.advance(subject.lifetime)
            eventually(
                lambda: not any(instance.is_alive for instance in compute.instances(job)), patience=subject.patience
            )
        else:
            assert len(listed(1)) == 1

    # Listing

    def test_instances_of_a_long_listing_are_complete(
        self, compute: Compute, subject: ComputeSubject, request_of: RequestFactory, listed: InstanceWaiter
    ) -> None:
        requests = [request_of() for _ in range(subject.many)]
        with ThreadPoolExecutor(min(subject.traits.max_parallel_launches, 4)) as threads:
            launched = sorted(instance.instance_id for instance in threads.map(compute.launch, requests))
        assert sorted(instance.instance_id for instance in listed(subject.many)) == launched

    def test_instances_are_those_of_the_job_or_of_all_jobs(
        self, compute: Compute, subject: ComputeSubject, job: str, request_of: RequestFactory, listed: InstanceWaiter
    ) -> None:
        own = compute.launch(request_of())
        other = compute.launch(request_of(job_id=job + "-other"))
        assert [instance.instance_id for instance in listed(1)] == [own.instance_id]
        eventually(
            lambda: {own.instance_id, other.instance_id} <= {each.instance_id for each in compute.instances(None)},
            patience=subject.traits.listing_lag + subject.patience,
        )

    def test_instances_exclude_unmanaged_ones(
        self, compute: Compute, subject: ComputeSubject, request_of: RequestFactory, listed: InstanceWaiter
    ) -> None:
        foreign = subject.foreign() if subject.foreign is not None else ""
        compute.launch(request_of())
        assert foreign not in {instance.instance_id for instance in listed(1)}
        assert foreign not in {instance.instance_id for instance in compute.instances(None)}

    def test_instances_include_unmanaged_ones_on_request(
        self, compute: Compute, subject: ComputeSubject, request_of: RequestFactory
    ) -> None:
        foreign = subject.foreign() if subject.foreign is not None else None
        own = compute.launch(request_of())

        def shown() -> dict[str, str]:
            return {each.instance_id: each.job_id for each in compute.instances(None, foreign=True)}

        eventually(lambda: own.instance_id in shown(), patience=subject.traits.listing_lag + subject.patience)
        assert shown()[own.instance_id] == own.job_id
        assert foreign is None or shown().get(foreign) == ""

    def test_check_prevents_no_run_on_an_account_that_works(
        self, subject: ComputeSubject, request_of: RequestFactory
    ) -> None:
        for launch in (None, request_of()):
            context = CheckContext(region=subject.region, zone=subject.offer.zone, launch=launch)
            require_no_obstacle(subject.backend, subject.settings, context)

    def test_headroom_has_a_number_and_its_limit(self, compute: Compute, subject: ComputeSubject) -> None:
        headroom = compute.headroom(subject.offer)
        assert headroom is None or (headroom.instances >= 0 and headroom.limited_by)

    def test_instances_are_found_by_another_object(
        self, compute: Compute, subject: ComputeSubject, job: str, request_of: RequestFactory, listed: InstanceWaiter
    ) -> None:
        launched = compute.launch(request_of())
        listed(1)
        with subject.open(job) as later:
            assert [instance.instance_id for instance in later.instances(job)] == [launched.instance_id]

    def test_instances_of_a_job_without_any_are_empty(
        self, compute: Compute, subject: ComputeSubject, job: str, request_of: RequestFactory
    ) -> None:
        if subject.foreign is not None:
            subject.foreign()
        compute.launch(request_of(job_id=job + "-other"))
        assert list(compute.instances(job)) == []
        assert list(compute.instances(job, include_terminated=True)) == []

    # Terminating

    def test_terminate_is_complete_and_idempotent(
        self, compute: Compute, subject: ComputeSubject, job: str, request_of: RequestFactory, listed: InstanceWaiter
    ) -> None:
        launched = compute.launch(request_of())
        listed(1)
        compute.terminate([launched.instance_id])
        compute.terminate([launched.instance_id])
        eventually(lambda: not any(each.is_alive for each in compute.instances(job)), patience=subject.patience)
        compute.terminate([launched.instance_id])

    def test_terminate_affects_the_given_instances_only(
        self, compute: Compute, subject: ComputeSubject, job: str, request_of: RequestFactory, listed: InstanceWaiter
    ) -> None:
        ids = [compute.launch(request_of()).instance_id for _ in range(3)]
        listed(3)
        compute.terminate([ids[0], ids[2]])
        eventually(
            lambda: [each.instance_id for each in compute.instances(job) if each.is_alive] == [ids[1]],
            patience=subject.patience,
        )

    def test_terminate_ignores_unknown_instances(self, compute: Compute) -> None:
        compute.terminate([])
        compute.terminate(["contract-unknown-instance"])

    # Console

    def test_console_log_has_the_output_of_the_script(
        self, compute: Compute, subject: ComputeSubject, request_of: RequestFactory
    ) -> None:
        launched = compute.launch(request_of())
        if subject.runs_scripts:
            eventually(
                lambda: "contract-marker" in compute.console_log(launched.instance_id), patience=subject.patience
            )
        assert len(compute.console_log(launched.instance_id)) <= 64 * 1024
