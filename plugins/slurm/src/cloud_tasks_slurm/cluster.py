"""What Slurm says: partitions with their instance types and prices, checks, and the job that a worker runs in."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from cloud_tasks import model
from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import CheckContext, Finding, InstanceContext, PricingContext, check_folder, kit
from cloud_tasks_slurm.commands import run_command
from cloud_tasks_slurm.settings import SlurmSettings

__all__ = ["SlurmInstanceSide", "check", "open_pricing", "read_types", "type_name"]


def type_name(partition: str, cpus: int | str) -> str:
    """Return the name of the instance type of a job."""
    return f"{partition}-{cpus}"


def read_types(settings: SlurmSettings) -> Sequence[model.InstanceType]:
    """Return slices of the largest node of each partition: 1, 2, 4 … CPUs and the whole node."""
    output = run_command(settings, "sinfo", "--all", "--noheader", "--exact", "--noconvert", "--format=%P|%a|%l|%c|%m")
    rows = [line.replace("+", "").split("|") for line in output.splitlines()]
    default = {row[0].rstrip("*") for row in rows if row[0].endswith("*")}
    wanted = {*(settings.partitions or default), *settings.spot_partitions}
    up = {(row[0].rstrip("*"), row[2], int(row[3]), int(row[4])) for row in rows if row[1] == "up"}
    largest = {name: (limit, cpus, mb) for name, limit, cpus, mb in sorted(up, key=lambda row: row[2:])}
    if missing := (wanted or {"by default"}) - largest.keys():
        raise ProviderError(f"no partition {min(missing)} that accepts jobs", hint="set slurm.partitions; run: sinfo")
    architecture = {"aarch64": model.Architecture.ARM64}.get(platform.machine(), model.Architecture.X86_64)
    return [
        model.InstanceType(
            name=type_name(name, slice_),
            vcpus=slice_,
            memory_gb=mb * slice_ // cpus / 1024,
            architecture=architecture,
            zones=(name,),
            supports_spot=name in settings.spot_partitions,
            max_lifetime=_duration(limit),
        )
        for name, (limit, cpus, mb) in largest.items()
        if name in wanted
        for slice_ in sorted({*(2**power for power in range(cpus.bit_length())), cpus})
    ]


def _duration(text: str) -> timedelta | None:
    """Return a time limit of Slurm: ``1-12:00:00``, ``30:00``, ``infinite``."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    units = ("days", "hours", "minutes", "seconds")
    return found and timedelta(**{unit: int(each or 0) for unit, each in zip(units, found.groups(), strict=True)})


def open_pricing(settings: SlurmSettings, context: PricingContext) -> kit.FlatPricing:
    """Return the prices; a partition has either spot or on-demand instances."""

    def price(request: model.OfferRequest) -> model.PriceBreakdown | str:
        spot = request.provisioning_model is model.ProvisioningModel.SPOT
        if spot != (request.zone in settings.spot_partitions):
            return f"no {request.provisioning_model.value} instances in partition {request.zone}"
        return model.PriceBreakdown(cpu=settings.price_per_cpu_hour * request.instance_type.vcpus)

    return kit.FlatPricing(price)


def check(settings: SlurmSettings, context: CheckContext) -> Iterator[Finding]:
    """Check the programs, the partitions and the folder of the output."""

    def output() -> str:
        with kit.translate_errors("slurm.output_dir", kit.Problem.of_exception):
            check_folder(settings.output_dir)
        return f"{settings.output_dir} can be written to; it has to be on storage that all nodes share"

    version = kit.Probe(subject="Slurm", look=lambda: run_command(settings, "sinfo", "--version").strip())
    types = kit.Probe(subject="partitions", look=lambda: ", ".join(each.name for each in read_types(settings)))
    yield from kit.run_probes([version, types, kit.Probe(subject="folder of the output", look=output)])


class SlurmInstanceSide(kit.PolledInstanceSide):
    """Identity by the variables of the job; notices of preemption and of the time limit by Slurm's controller."""

    def __init__(self, settings: SlurmSettings, context: InstanceContext) -> None:
        super().__init__()
        self._settings = settings
        # Workers by the thousand ask one controller.
        self.notice_interval = settings.notice_interval

    def _read_identity(self) -> model.InstanceIdentity:
        names = ("SLURM_JOB_ID", "SLURM_JOB_PARTITION", "SLURM_CPUS_PER_TASK")
        number, partition, cpus = (os.environ.get(name, "") for name in names)
        if not cpus.isdecimal():
            raise ProviderError("this process does not run in a job that cloud-tasks submitted to Slurm")
        return model.InstanceIdentity(instance_id=number, zone=partition, instance_type=type_name(partition, cpus))

    def _read_notice(self) -> model.TerminationNotice | None:
        number = self._read_identity().instance_id
        job = run_command(self._settings, "scontrol", "--oneliner", "show", "job", number)
        # The first match of each: text of the job, such as its comment, follows.
        times = dict(reversed(re.findall(r"\s(StartTime|EndTime|PreemptTime)=(\d+)", job)))
        start, end = (int(times.get(name, 0)) for name in ("StartTime", "EndTime"))
        # Two minutes before the end, but not for the whole life of a short job.
        near = end - datetime.now(UTC).timestamp() < min(120.0, (end - start) / 4)
        if not end or not (near or "PreemptTime" in times):
            return None
        reason = "preempted by Slurm" if "PreemptTime" in times else "time limit of the job"
        return model.TerminationNotice(at=datetime.fromtimestamp(end, UTC), reason=reason)
