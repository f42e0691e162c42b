"""Run commands in this process, with a provider in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
from click.testing import CliRunner

import cloud_tasks.builtin
from cloud_tasks.cli.context import AppContext
from cloud_tasks.cli.main import cli
from cloud_tasks.controller import owner_label
from cloud_tasks.errors import CloudTasksError
from cloud_tasks.model import BootDisk, Instance, LaunchRequest, Offer, PriceBreakdown, ProvisioningModel
from cloud_tasks.plugin import (
    ComputeBackend,
    ComputeContext,
    PricingBackend,
    Queue,
    QueueBackend,
    QueueContext,
    hookimpl,
)
from cloud_tasks.registry import Registry
from cloud_tasks.store import Store
from cloud_tasks.testing.fakes.memory import MemoryProvider


@attrs.frozen(kw_only=True)
class Answer:
    """Result of a command."""

    code: int
    out: str
    err: str
    error: CloudTasksError | None
    """Error that the command raised."""

    @property
    def data(self) -> Any:
        """Return the printed JSON."""
        return json.loads(self.out)


class MemoryCommands:
    """Command line with the built-ins and one plugin: ``memory``.

    Args:
        queue: Fields to replace in the queue backend; likewise ``compute`` and ``pricing``.
    """

    def __init__(
        self,
        *,
        queue: Mapping[str, Any] | None = None,
        compute: Mapping[str, Any] | None = None,
        pricing: Mapping[str, Any] | None = None,
        provider: MemoryProvider | None = None,
    ) -> None:
        self.provider = provider or MemoryProvider()
        queues: QueueBackend = attrs.evolve(self.provider.queue, **(queue or {}))
        compute_backend: ComputeBackend = attrs.evolve(self.provider.compute, **(compute or {}))
        prices: PricingBackend = attrs.evolve(self.provider.pricing, **(pricing or {}))
        self.registry = Registry(builtins=[("builtin", cloud_tasks.builtin)], only=())
        plugin = SimpleNamespace(
            cloud_tasks_register_queue=hookimpl(lambda: (queues,)),
            cloud_tasks_register_compute=hookimpl(lambda: (compute_backend,)),
            cloud_tasks_register_pricing=hookimpl(lambda: (prices,)),
        )
        self.registry.register("memory", plugin)

    def call(self, command: str, *arguments: str, provider: bool = True) -> Answer:
        """Run a command with ``--provider memory``."""
        chosen = ["--provider", "memory"] if provider else []
        result = CliRunner().invoke(
            cli, [command, *chosen, *arguments], obj=AppContext(registry=self.registry), standalone_mode=False
        )
        if result.exception is not None and not isinstance(result.exception, CloudTasksError):
            raise result.exception
        code = result.return_value if isinstance(result.return_value, int) else result.exit_code
        return Answer(code=code, out=result.stdout, err=result.stderr, error=result.exception)

    def queue(self, name: str) -> Queue:
        context = QueueContext(job_id="job", name=name, lease=self.provider.queue.traits.max_lease)
        return self.provider.queue.open(None, context).__enter__()

    def job_queue(self, kind: str = "task", *, database: Path = Path("job.db")) -> Queue:
        """Return the queue that the database of a job names."""
        with Store.open(database, read_only=True) as store:
            return self.queue(store.job.queue_name if kind == "task" else store.job.event_queue_name)

    def launch(self, token: str, *, job_id: str = "job", vcpus: int = 2, zone: str = "memory-a") -> Instance:
        compute = self.provider.compute.open(None, ComputeContext(job_id=job_id)).__enter__()
        kind = next(each for each in compute.instance_types() if each.vcpus == vcpus)
        offer = Offer(
            instance_type=kind,
            zone=zone,
            provisioning_model=ProvisioningModel.SPOT,
            boot_disk=BootDisk(disk_type="", size_gb=10.0),
            price=PriceBreakdown(),
            priced_at=self.provider.clock(),
        )
        request = LaunchRequest(
            client_token=token, job_id=job_id, offer=offer, startup_script="", labels={"owner": owner_label()}
        )
        return compute.launch(request)
