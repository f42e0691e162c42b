"""Slurm passes the contracts, on a cluster of one node."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import pytest
from slurm_cluster import Cluster

from cloud_tasks.errors import RefusalScope
from cloud_tasks.model import (
    BootDisk,
    InstanceIdentity,
    InstanceType,
    LaunchRequest,
    Money,
    Offer,
    OfferRequest,
    PriceBreakdown,
    ProvisioningModel,
)
from cloud_tasks.plugin import ComputeContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import (
    ComputeContract,
    ComputeSubject,
    InstanceSideContract,
    InstanceSideSubject,
    PricingContract,
    PricingSubject,
    Refusal,
    eventually,
)
from cloud_tasks_slurm.compute import SlurmCompute
from cloud_tasks_slurm.settings import SlurmSettings

REGISTRY = Registry(only=["slurm"])
DISK = BootDisk(disk_type="", size_gb=10)


def types_of(settings: SlurmSettings) -> dict[str, InstanceType]:
    return {each.name: each for each in SlurmCompute(settings, ComputeContext(job_id="")).instance_types()}


def offer_of(kind: InstanceType) -> Offer:
    return Offer(
        instance_type=kind,
        zone=kind.zones[0],
        provisioning_model=ProvisioningModel.SPOT if kind.supports_spot else ProvisioningModel.ON_DEMAND,
        boot_disk=DISK,
        price=PriceBreakdown(),
        priced_at=datetime.now(UTC),
    )


class TestSlurmCompute(ComputeContract):
    @pytest.fixture
    def subject(self, cluster: Cluster, settings: SlurmSettings) -> ComputeSubject:
        def advance(lifetime: timedelta) -> None:
            """Shorten the time limit, whose unit is a minute, of each job that runs."""
            eventually(lambda: cluster.call("squeue", "-h", "-t", "RUNNING", "-o", "%i"))
            for line in cluster.call("squeue", "-h", "-t", "RUNNING", "-o", "%i %l").splitlines():
                number, limit = line.split()
                if limit != "UNLIMITED":
                    cluster.call("scontrol", "update", f"JobId={number}", "TimeLimit-=1")

        def cancel(number: str) -> None:
            cluster.call("scancel", number)

        def closed(request: LaunchRequest) -> LaunchRequest:
            return attrs.evolve(request, offer=attrs.evolve(request.offer, zone="nowhere"))

        def too_large(request: LaunchRequest) -> LaunchRequest:
            large = attrs.evolve(request.offer.instance_type, memory_gb=10_000.0)
            return attrs.evolve(request, offer=attrs.evolve(request.offer, instance_type=large))

        return ComputeSubject(
            backend=REGISTRY.compute("slurm"),
            settings=settings,
            offer=offer_of(types_of(settings)["main-1"]),
            lifetime=timedelta(minutes=1),
            advance=advance,
            patience=timedelta(seconds=60),
            foreign=lambda: cluster.submit("sleep 600"),
            end_foreign=cancel,
            refusals=(
                Refusal(request=closed, scope=RefusalScope.ZONE),
                Refusal(request=too_large, scope=RefusalScope.INSTANCE_TYPE),
            ),
            unreachable=attrs.evolve(settings, command_timeout=0.5, conf_file=cluster.unreachable()),
        )


class TestSlurmInstanceSide(InstanceSideContract):
    @pytest.fixture
    def subject(
        self, cluster: Cluster, settings: SlurmSettings, monkeypatch: pytest.MonkeyPatch
    ) -> InstanceSideSubject:
        number = cluster.submit("sleep 600", "--partition=scavenge", "--cpus-per-task=2", "--time=10")
        eventually(lambda: cluster.call("squeue", "-h", "-j", number, "-o", "%T"), lambda state: state == "RUNNING")
        variables = {"SLURM_JOB_ID": number, "SLURM_JOB_PARTITION": "scavenge", "SLURM_CPUS_PER_TASK": "2"}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

        def preempt() -> None:
            cluster.submit("sleep 1", "--partition=main")

        def leave() -> None:
            for name in variables:
                monkeypatch.delenv(name)

        return InstanceSideSubject(
            backend=REGISTRY.compute("slurm"),
            settings=settings,
            identity=InstanceIdentity(instance_id=number, zone="scavenge", instance_type="scavenge-2"),
            give_notice=preempt,
            leave=leave,
        )


class TestSlurmPricing(PricingContract):
    @pytest.fixture
    def subject(self, settings: SlurmSettings) -> PricingSubject:
        kinds = types_of(settings)
        return PricingSubject(
            backend=REGISTRY.pricing("slurm"),
            settings=attrs.evolve(settings, price_per_cpu_hour=Money("0.04")),
            requests=[
                OfferRequest(
                    instance_type=kinds["main-1"],
                    zone="main",
                    provisioning_model=ProvisioningModel.ON_DEMAND,
                    boot_disk=DISK,
                ),
                OfferRequest(
                    instance_type=kinds["scavenge-2"],
                    zone="scavenge",
                    provisioning_model=ProvisioningModel.SPOT,
                    boot_disk=DISK,
                ),
            ],
            unpriced=OfferRequest(
                instance_type=kinds["main-1"], zone="main", provisioning_model=ProvisioningModel.SPOT, boot_disk=DISK
            ),
        )
