"""Compute contract of Azure Virtual Machines, with the real SDKs against the fake."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import attrs
import pytest
from arm_fake import ArmFake
from arm_records import StockOut
from arm_requests import offer, settings_for, unmanaged_vm_body

from cloud_tasks.errors import RefusalScope
from cloud_tasks.model import LaunchRequest
from cloud_tasks.registry import Registry
from cloud_tasks.testing import ComputeContract, ComputeSubject, Refusal


def in_zone(request: LaunchRequest, zone: str) -> LaunchRequest:
    return attrs.evolve(request, offer=attrs.evolve(request.offer, zone=zone))


def of_type(request: LaunchRequest, name: str) -> LaunchRequest:
    changed = attrs.evolve(request.offer.instance_type, name=name)
    return attrs.evolve(request, offer=attrs.evolve(request.offer, instance_type=changed))


class TestVirtualMachines(ComputeContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[ComputeSubject]:
        with ArmFake(tmp_path / "arm", page_size=2) as fake:
            cloud = fake.cloud
            cloud.stock_outs = [StockOut(size="Standard_F4s_v2"), StockOut(size="Standard_F8s_v2", at_once=True)]
            cloud.quotas["eastus"]["standardDASv5Family"] = 1

            group = f"/subscriptions/{cloud.subscription}/resourceGroups/others"

            def vm_id(name: str) -> str:
                return f"{group}/providers/Microsoft.Compute/virtualMachines/{name}"

            def foreign() -> str:
                cloud.put_group("others", {"location": "eastus"})
                network = f"{group}/providers/Microsoft.Network/virtualNetworks/net"
                cloud.put(network, "Microsoft.Network/virtualNetworks", {"properties": {"subnets": [{"name": "s"}]}})
                cloud.create(vm_id("unmanaged-vm"), unmanaged_vm_body(f"{network}/subnets/s"), must_be_new=False)
                return "unmanaged-vm"

            yield ComputeSubject(
                backend=Registry(only=["azure"]).compute("azure"),
                offer=offer(),
                settings=settings_for(fake),
                region="eastus",
                foreign=foreign,
                end_foreign=lambda name: cloud.delete_machine(vm_id(name), forced=True),
                refusals=(
                    Refusal(request=lambda r: in_zone(r, "eastus-7"), scope=RefusalScope.ZONE),
                    Refusal(request=lambda r: in_zone(r, "moon"), scope=RefusalScope.REGION),
                    Refusal(request=lambda r: of_type(r, "Standard_D9s_v5"), scope=RefusalScope.INSTANCE_TYPE),
                    Refusal(request=lambda r: of_type(r, "Standard_F4s_v2"), scope=RefusalScope.OFFER),
                    Refusal(request=lambda r: of_type(r, "Standard_F8s_v2"), scope=RefusalScope.OFFER),
                    Refusal(request=lambda r: of_type(r, "Standard_D2as_v5"), scope=RefusalScope.INSTANCE_TYPE),
                ),
                lifetime=timedelta(seconds=1),
            )
