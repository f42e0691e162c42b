"""Azure fakes for whole jobs: Resource Manager with running VMs, prices, storage; and a working folder for jobs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arm_fake import SUBSCRIPTION
from arm_process import ArmProcess
from azurite import Azurite
from fake_server import Fault
from job_folder import LoggingJobFolder
from retail_fake import RetailFake
from storage_faults import StorageFaults

__all__ = ["AzureCloud", "AzureJobFolder", "azure_cloud"]

REGION = "eastus"


class AzureCloud:
    """The running fakes."""

    def __init__(
        self,
        arm: ArmProcess,
        prices: RetailFake,
        storage: Azurite,
        faults: StorageFaults,
        environment: Mapping[str, str],
    ) -> None:
        self.environment = environment
        """Environment of commands and VMs that points the SDK at the storage."""
        self.arm = arm
        self.prices = prices
        self.storage = storage
        self.faults = faults

    def inject_faults(self, share: float) -> None:
        """Fail this share of all calls from now on, half of them after their effect; 0: none."""
        body = "<?xml version='1.0' encoding='utf-8'?><Error><Code>ServerBusy</Code><Message>busy</Message></Error>"
        self.faults.server.fault = Fault(share=share, status=503, body=body) if share else None
        self.arm.fault(**({"share": share, "status": 503} if share else {}))

    def left(self) -> dict[str, list[str]]:
        """Return everything that still exists, by kind."""
        state = self.arm.state()
        found = {
            "instances": [each["name"] for each in state["instances"]],
            "resources": state["resources"],
            "groups": state["groups"],
            "queues": self.storage.queues(),
            "blobs": self.storage.blobs("cloud-tasks"),
        }
        return {kind: names for kind, names in found.items() if names}


@contextmanager
def azure_cloud(
    folder: Path,
    storage: Azurite,
    *,
    seed: int = 1,
    guest_environment: Mapping[str, str] | None = None,
    is_proxied: bool = True,
) -> Iterator[AzureCloud]:
    """Run all fakes; they end with the context. VMs reach the storage account like commands.

    Args:
        is_proxied: Whether calls of queues go through the proxy that injects faults, which makes them slower.
    """
    faults = StorageFaults(storage.queue_endpoint)
    with faults.server.serving(), RetailFake() as prices:
        environment = storage_environment(storage, faults) if is_proxied else storage.environment
        guests = {**environment, **(guest_environment or {})}
        with ArmProcess(folder / "machines", guest_environment=guests, seed=seed) as arm:
            yield AzureCloud(arm, prices, storage, faults, environment)


def storage_environment(storage: Azurite, faults: StorageFaults) -> dict[str, str]:
    """Return the environment that points the SDK at the fault proxy of the queues."""
    return {
        "AZURE_STORAGE_CONNECTION_STRING": storage.connection_string.replace(storage.queue_endpoint, faults.endpoint)
    }


class AzureJobFolder(LoggingJobFolder):
    """A working folder for jobs on Azure."""

    def __init__(self, folder: Path, cloud: AzureCloud) -> None:
        super().__init__(folder, {**cloud.environment, "CLOUD_TASKS_CACHE_DIR": str(folder / "cache")})
        self._cloud = cloud

    def configure(
        self,
        *,
        sections: Mapping[str, Any] | None = None,
        environment: str = "",
        public_address: bool = False,
        lease: int = 10,
        azure: Mapping[str, Any] | None = None,
        **run: Any,
    ) -> None:
        """Write `config.yml`; ``run`` adds or replaces keys of that section, ``sections`` adds others.

        Args:
            lease: Lease of the workers in seconds; a message whose response was lost waits for its end.
            azure: Settings of the provider to add or replace.
        """
        settings = {
            "job_id": "addition",
            "region": REGION,
            "min_cpu": 2,
            "max_cpu": 2,
            "max_instances": 2,
            "scaling_check_interval": 1,
            "instance_termination_delay": 0,
            "max_runtime": 60,
            "startup_script": self.startup_script(
                "worker_addition.py",
                f"--notice-interval 0.5 --lease {lease}",
                environment=environment,
            ),
            **run,
        }
        provider = {
            "subscription_id": SUBSCRIPTION,
            "management_endpoint": self._cloud.arm.url,
            "prices_endpoint": self._cloud.prices.url,
            "operation_poll_seconds": 0.05,
            "managed_identity": "system",
            "queue_poll_seconds": 0.5,
            "public_address": public_address,
            **(azure or {}),
        }
        others = {"provider": "azure", "azure": provider, **(sections or {})}
        self.write_config({**others, "run": settings})

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `cloud-tasks run`."""
        return super().start("run", "--config", "config.yml", *arguments)

    def run_job(self, *arguments: str, timeout: float = 240) -> int:
        """Run `cloud-tasks run` and return its exit code."""
        return self.start(*arguments).wait(timeout)

    def done(self) -> int:
        """Return the number of result files."""
        return self.result_count()
