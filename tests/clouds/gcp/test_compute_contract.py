"""Compute Engine passes the compute contract, with the real SDK and the fake."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
from gce_fake import GceFake
from gce_records import StockOut

from cloud_tasks.errors import RefusalScope
from cloud_tasks.model import (
    Architecture,
    BootDisk,
    InstanceType,
    LaunchRequest,
    Money,
    Offer,
    PriceBreakdown,
    ProvisioningModel,
)
from cloud_tasks.registry import Registry
from cloud_tasks.testing import ComputeContract, ComputeSubject, Refusal
from cloud_tasks_gcp.settings import GcpSettings

E2 = InstanceType(
    name="e2-standard-2",
    vcpus=2,
    memory_gb=8.0,
    architecture=Architecture.X86_64,
    zones=("us-central1-a",),
    boot_disk_types=("pd-standard",),
)
OFFER = Offer(
    instance_type=E2,
    zone="us-central1-a",
    provisioning_model=ProvisioningModel.ON_DEMAND,
    boot_disk=BootDisk(disk_type="pd-standard", size_gb=10),
    price=PriceBreakdown(cpu=Money("0.07")),
    priced_at=datetime(2025, 7, 1, tzinfo=UTC),
)


def unknown_zone(request: LaunchRequest) -> LaunchRequest:
    return attrs.evolve(request, offer=attrs.evolve(request.offer, zone="moon-a"))


def of_type(request: LaunchRequest, name: str) -> LaunchRequest:
    changed = attrs.evolve(request.offer.instance_type, name=name)
    return attrs.evolve(request, offer=attrs.evolve(request.offer, instance_type=changed))


class TestComputeEngine(ComputeContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[ComputeSubject]:
        with GceFake(tmp_path / "gce", page_size=2) as fake:
            cloud = fake.cloud
            cloud.stock_outs = [StockOut(machine_type="c2-standard-4")]
            cloud.quotas["us-central1"]["N2D_CPUS"] = 1

            def unmanaged() -> str:
                body = {
                    "name": "unmanaged",
                    "machineType": "zones/us-central1-a/machineTypes/e2-small",
                    "disks": [{"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": IMAGE}}],
                    "networkInterfaces": [{"network": "global/networks/default"}],
                    "labels": {"team": "others"},
                }
                operation = cloud.insert(ZONE, body, "")
                cloud.wait(operation.name, 20)
                return "unmanaged"

            yield ComputeSubject(
                backend=Registry(only=["gcp"]).compute("gcp"),
                offer=OFFER,
                settings=GcpSettings(project_id="fake-project", compute_endpoint=fake.url),
                region="us-central1",
                foreign=unmanaged,
                end_foreign=lambda name: cloud.wait(cloud.delete_instance(ZONE, name, "").name, 20),
                refusals=(
                    Refusal(request=unknown_zone, scope=RefusalScope.ZONE),
                    Refusal(request=lambda request: of_type(request, "e9-standard-2"), scope=RefusalScope.OFFER),
                    Refusal(request=lambda request: of_type(request, "c2-standard-4"), scope=RefusalScope.OFFER),
                    Refusal(
                        request=lambda request: of_type(request, "n2d-standard-2"), scope=RefusalScope.INSTANCE_TYPE
                    ),
                ),
                advance=lambda duration: cloud.timeline.advance(duration.total_seconds()),
                lifetime=timedelta(seconds=30),
            )


ZONE = "us-central1-a"
IMAGE = "projects/debian-cloud/global/images/family/debian-12"
