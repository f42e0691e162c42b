"""Registration of the Slurm provider. Imported by every command."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_tasks.plugin import ComputeBackend, ComputeTraits, PricingBackend, Reach, hookimpl
from cloud_tasks_slurm.settings import SlurmSettings

__all__ = ["cloud_tasks_register_compute", "cloud_tasks_register_pricing"]


@hookimpl
def cloud_tasks_register_compute() -> Sequence[ComputeBackend]:
    backend = ComputeBackend(
        name="slurm",
        summary="Batch jobs of a Slurm cluster",
        settings=SlurmSettings,
        traits=ComputeTraits(
            enforces_max_lifetime=True, lists_all_regions=True, location=Reach.SHARED_FILES, delivers_secrets=True
        ),
        open="cloud_tasks_slurm.compute:SlurmCompute",
        open_instance="cloud_tasks_slurm.cluster:SlurmInstanceSide",
        check="cloud_tasks_slurm.cluster:check",
        check_launch="cloud_tasks_slurm.compute:check_launch",
    )
    return (backend,)


@hookimpl
def cloud_tasks_register_pricing() -> Sequence[PricingBackend]:
    summary, target = "Flat price per CPU hour", "cloud_tasks_slurm.cluster:open_pricing"
    return (PricingBackend(name="slurm", summary=summary, settings=SlurmSettings, open=target),)
