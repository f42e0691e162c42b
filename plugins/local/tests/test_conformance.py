"""The local provider passes the contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import attrs
import pytest
from local_requests import FOREVER, folder_of, request

from cloud_tasks.errors import RefusalScope
from cloud_tasks.model import BootDisk, InstanceIdentity, LaunchRequest, Offer, OfferRequest, ProvisioningModel
from cloud_tasks.plugin import ComputeContext, PricingContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import (
    ComputeContract,
    ComputeSubject,
    InstanceSideContract,
    InstanceSideSubject,
    PricingContract,
    PricingSubject,
    QueueContract,
    QueueSubject,
    Refusal,
)
from cloud_tasks_local.catalog import instance_types
from cloud_tasks_local.compute import LocalCompute
from cloud_tasks_local.pricing import open_pricing
from cloud_tasks_local.processes import MARKER
from cloud_tasks_local.settings import LocalSettings

REGISTRY = Registry(only=["local"])


def offer_requests() -> list[OfferRequest]:
    types = instance_types(LocalSettings(vcpus=4, memory_gb=8.0))
    disk = BootDisk(disk_type="", size_gb=10)
    return [
        OfferRequest(instance_type=each, zone="local-a", provisioning_model=provisioning_model, boot_disk=disk)
        for each in types
        for provisioning_model in ProvisioningModel
    ]


class TestLocalQueue(QueueContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> QueueSubject:
        return QueueSubject(
            backend=REGISTRY.queue("local"),
            settings=LocalSettings(state_dir=tmp_path),
            lease=timedelta(seconds=0.3),
        )


class TestLocalCompute(ComputeContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> ComputeSubject:
        settings = LocalSettings(state_dir=tmp_path, vcpus=4, memory_gb=8.0, shutdown_grace=1.0)
        (offer,) = open_pricing(settings, PricingContext()).price(offer_requests()[:1])
        assert isinstance(offer, Offer)

        def unknown_zone(request: LaunchRequest) -> LaunchRequest:
            return attrs.evolve(request, offer=attrs.evolve(request.offer, zone="moon-a"))

        def unknown_type(request: LaunchRequest) -> LaunchRequest:
            unknown = attrs.evolve(request.offer.instance_type, name="local-4096")
            return attrs.evolve(request, offer=attrs.evolve(request.offer, instance_type=unknown))

        refusals: dict[RefusalScope, Callable[[LaunchRequest], LaunchRequest]] = {
            RefusalScope.ZONE: unknown_zone,
            RefusalScope.INSTANCE_TYPE: unknown_type,
        }
        return ComputeSubject(
            backend=REGISTRY.compute("local"),
            settings=settings,
            offer=offer,
            lifetime=timedelta(seconds=0.3),
            refusals=tuple(Refusal(request=make, scope=scope) for scope, make in refusals.items()),
        )


class TestLocalInstanceSide(InstanceSideContract):
    """The side of a launched instance, in whose environment this process is for the test."""

    @pytest.fixture
    def subject(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InstanceSideSubject]:
        settings = LocalSettings(state_dir=tmp_path, shutdown_grace=1.0)
        compute = LocalCompute(settings, ComputeContext(job_id="job"))
        compute.launch(request(FOREVER))
        (listed,) = compute.instances("job")
        folder = folder_of(settings, listed)
        monkeypatch.setenv("CLOUD_TASKS_INSTANCE_ID", listed.instance_id)
        monkeypatch.setenv(MARKER, str(folder.path))

        def give_notice() -> None:
            folder.write(folder.notice, {"at": "2030-01-01T00:00:00+00:00", "reason": "simulated spot interruption"})

        def leave() -> None:
            monkeypatch.delenv("CLOUD_TASKS_INSTANCE_ID")
            monkeypatch.delenv(MARKER)

        yield InstanceSideSubject(
            backend=REGISTRY.compute("local"),
            settings=settings,
            identity=InstanceIdentity(
                instance_id=listed.instance_id, zone=listed.zone, instance_type=listed.instance_type
            ),
            give_notice=give_notice,
            leave=leave,
            forbidden=("cloud_tasks_local.compute", "cloud_tasks_local.queue", "sqlite3"),
        )
        compute.terminate([listed.instance_id])


class TestLocalPricing(PricingContract):
    @pytest.fixture
    def subject(self) -> PricingSubject:
        return PricingSubject(backend=REGISTRY.pricing("local"), settings=LocalSettings(), requests=offer_requests())
