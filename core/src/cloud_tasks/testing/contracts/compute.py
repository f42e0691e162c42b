"""Contract of compute backends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import attrs
import pytest

from cloud_tasks.errors import LaunchRefusedError, ProviderError
from cloud_tasks.model import Instance, InstanceState, ProvisioningModel
from cloud_tasks.plugin import CheckContext, Compute
from cloud_tasks.testing.contracts.compute_safety import ComputeSafety
from cloud_tasks.testing.contracts.compute_subject import (
    ComputeSubject,
    InstanceWaiter,
    Launch,
    Refusal,
    RequestFactory,
    described,
    live,
    require_consistent_times,
)
from cloud_tasks.testing.contracts.contract import Contract, eventually, require_no_obstacle
from cloud_tasks.testing.fakes.faults import Fault, When, inject

__all__ = ["ComputeContract", "ComputeSubject", "Refusal"]

_UNKNOWN = "contract-unknown-instance"
_LONGER = 8


class ComputeContract(ComputeSafety, Contract):
    """Idempotent launches, complete listings, thorough terminations; see `cloud_tasks.plugin.Compute`."""

    # Regions, types, images

    def test_regions_have_names_and_zones(self, compute: Compute, subject: ComputeSubject) -> None:
        regions = compute.regions()
        assert len({region.name for region in regions}) == len(regions) > 0
        zones = {zone for region in regions for zone in region.zones}
        assert not zones or subject.offer.zone in zones

    def test_instance_types_are_described(self, compute: Compute, subject: ComputeSubject) -> None:
        types = compute.instance_types()
        assert subject.offer.instance_type.name in {each.name for each in types}
        assert len({each.name for each in types}) == len(types)
        assert all(each.vcpus >= 1 and each.memory_gb > 0 and each.zones for each in types)

    def test_images_have_unique_names(self, compute: Compute) -> None:
        images = compute.images()
        assert len({(image.name, image.architecture, image.owner) for image in images}) == len(images)

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
        for answer in (launched, instance):
            assert answer.job_id == request.job_id
            assert answer.instance_type == subject.offer.instance_type.name
            assert answer.zone == subject.offer.zone
            assert answer.provisioning_model is subject.offer.provisioning_model
            assert answer.client_token == request.client_token
            assert answer.boot_disk_type in ("", subject.offer.boot_disk.disk_type)
            assert dict(request.labels).items() <= dict(answer.labels).items()
            require_consistent_times(answer)

    def test_launch_repeated_with_one_token_starts_one_instance(
        self, compute: Compute, subject: ComputeSubject, job: str, request_of: RequestFactory, listed: InstanceWaiter
    ) -> None:
        request = request_of()
        first = compute.launch(request)

        def is_running(found: Sequence[Instance]) -> bool:
            return any(each.state is InstanceState.RUNNING for each in found)

        # Both while it starts and while it runs.
        for _ in range(2):
            with subject.open(job) as after_a_crash:
                assert after_a_crash.launch(request).instance_id == first.instance_id
            patience = subject.traits.listing_lag + subject.patience
            eventually(lambda: live(compute, job), is_running, patience=patience, show=described)
            assert len(listed(1)) == 1

    def test_calls_can_be_repeated_after_a_lost_answer(
        self,
        compute: Compute,
        request_of: RequestFactory,
        listed: InstanceWaiter,
        all_ended: Callable[[], object],
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
        all_ended()

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
        self,
        compute: Compute,
        subject: ComputeSubject,
        job: str,
        request_of: RequestFactory,
        launch: Launch,
    ) -> None:
        longer = subject.lifetime * _LONGER
        began_at = time.monotonic()

        def is_late() -> bool:
            # On a slow machine, both may have ended.
            return time.monotonic() - began_at >= longer.total_seconds()

        def alive() -> set[str]:
            return {each.instance_id for each in live(compute, job) if each.is_alive}

        enforced, is_clock_set = subject.traits.enforces_max_lifetime, False
        patience = subject.traits.listing_lag + subject.patience
        if enforced:
            ended, kept = (launch(request_of(max_lifetime=each)).instance_id for each in (subject.lifetime, longer))
            eventually(alive, lambda found: kept in found or is_late(), patience=patience)
            advanced_at = time.monotonic()
            subject.advance(subject.lifetime)
            is_clock_set = time.monotonic() - advanced_at < subject.lifetime.total_seconds() / 2
            found = eventually(alive, lambda found: ended not in found, patience=subject.patience)
            assert kept in found or is_late(), f"ended before its lifetime of {longer}"
            compute.terminate([kept])
        if is_clock_set or not enforced:
            endless = launch(request_of()).instance_id
            if is_clock_set:
                subject.advance(timedelta(days=1))
            eventually(alive, lambda found: endless in found, patience=patience)

    # Listing

    def test_instances_of_a_long_listing_are_complete(
        self,
        compute: Compute,
        subject: ComputeSubject,
        request_of: RequestFactory,
        launch: Launch,
        listed: InstanceWaiter,
        all_ended: Callable[[], object],
    ) -> None:
        requests = [request_of() for _ in range(subject.many)]
        # Only one at a time can wait for its turn.
        parallel = 1 if subject.traits.max_pending else min(subject.traits.max_parallel_launches, 4)
        with ThreadPoolExecutor(parallel) as threads:
            launched = [instance.instance_id for instance in threads.map(launch, requests)]
        found = {instance.instance_id: instance for instance in listed(subject.many)}
        assert sorted(found) == sorted(launched)
        for foreign in (False, True):
            assert set(found) <= {instance.instance_id for instance in compute.instances(None, foreign=foreign)}
        for request, instance_id in zip(requests, launched, strict=True):
            assert found[instance_id].client_token == request.client_token
            assert dict(request.labels).items() <= dict(found[instance_id].labels).items()
        compute.terminate(launched)
        all_ended()

    def test_instances_are_those_of_the_job_or_of_all_jobs(
        self,
        compute: Compute,
        subject: ComputeSubject,
        job: str,
        request_of: RequestFactory,
        launch: Launch,
        listed: InstanceWaiter,
    ) -> None:
        own = launch(request_of())
        other = launch(request_of(job_id=job + "-other"))
        assert [instance.instance_id for instance in listed(1)] == [own.instance_id]
        found = eventually(
            lambda: {each.instance_id: each.job_id for each in compute.instances(None)},
            lambda jobs: {own.instance_id, other.instance_id} <= set(jobs),
            patience=subject.traits.listing_lag + subject.patience,
        )
        assert [found[each.instance_id] for each in (own, other)] == [own.job_id, other.job_id]
        assert other.job_id == job + "-other"

    def test_instances_exclude_unmanaged_ones(
        self, compute: Compute, unmanaged: str | None, request_of: RequestFactory, listed: InstanceWaiter
    ) -> None:
        compute.launch(request_of())
        assert unmanaged not in {instance.instance_id for instance in listed(1)}
        assert unmanaged not in {instance.instance_id for instance in compute.instances(None)}

    def test_instances_include_unmanaged_ones_on_request(
        self, compute: Compute, subject: ComputeSubject, unmanaged: str | None, request_of: RequestFactory
    ) -> None:
        own = compute.launch(request_of())
        shown = eventually(
            lambda: {each.instance_id: each.job_id for each in compute.instances(None, foreign=True)},
            lambda jobs: own.instance_id in jobs,
            patience=subject.traits.listing_lag + subject.patience,
        )
        assert shown[own.instance_id] == own.job_id
        assert unmanaged is None or shown.get(unmanaged) == ""

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

    @pytest.mark.usefixtures("unmanaged")
    def test_instances_of_a_job_without_any_are_empty(
        self, compute: Compute, job: str, request_of: RequestFactory
    ) -> None:
        compute.launch(request_of(job_id=job + "-other"))
        assert list(compute.instances(job)) == []
        assert list(compute.instances(job, include_terminated=True)) == []

    # Terminating

    def test_terminate_is_complete_and_idempotent(
        self, compute: Compute, request_of: RequestFactory, listed: InstanceWaiter, all_ended: Callable[[], object]
    ) -> None:
        launched = compute.launch(request_of())
        listed(1)
        together = threading.Barrier(2)

        def terminate(instance_id: str) -> None:
            together.wait()
            compute.terminate([instance_id])

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(terminate, [launched.instance_id] * 2))
        compute.terminate([launched.instance_id])
        all_ended()
        compute.terminate([launched.instance_id])
        with suppress(ProviderError):
            assert isinstance(compute.console_log(launched.instance_id), str)

    def test_terminate_affects_the_given_instances_only(
        self,
        compute: Compute,
        subject: ComputeSubject,
        job: str,
        request_of: RequestFactory,
        launch: Launch,
        listed: InstanceWaiter,
    ) -> None:
        def require_alive(*ids: str) -> None:
            eventually(
                lambda: live(compute, job),
                lambda found: sorted(each.instance_id for each in found if each.is_alive) == sorted(ids),
                patience=subject.patience,
                show=described,
            )

        shortest, ended, kept, *others = _alike_first([launch(request_of()).instance_id for _ in range(subject.many)])
        listed(subject.many)
        compute.terminate([ended])
        # Neither an ended nor an unknown instance keeps the others running.
        compute.terminate([ended, _UNKNOWN, *others])
        require_alive(shortest, kept)
        compute.terminate([shortest])
        require_alive(kept)
        assert kept in {each.instance_id for each in compute.instances(job, include_terminated=True)}

    def test_terminate_ignores_unknown_instances(self, compute: Compute) -> None:
        compute.terminate([])
        compute.terminate([_UNKNOWN])


def _alike_first(ids: Sequence[str]) -> list[str]:
    """Return the ids, first one that is the beginning of others, then these others, as far as there are such."""
    shortest = next((each for each in ids if sum(other.startswith(each) for other in ids) > 1), ids[0])
    return sorted(ids, key=lambda each: (each != shortest, not each.startswith(shortest)))
