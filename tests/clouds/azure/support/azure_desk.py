"""All of Azure that a job meets: Resource Manager with machines that run, prices, storage; and a desk to work at."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arm_fake import SUBSCRIPTION
from arm_process import ArmProcess
from azurite import Azurite
from cloud_wire import Fault
from retail_fake import RetailFake
from storage_faults import StorageFaults

__all__ = ["AzureCloud", "AzureDesk", "azure_cloud"]

_EXAMPLE = Path(__file__).parents[4] / "examples" / "parallel_addition"
_PROGRAM = Path(sys.executable).with_name("cloud-tasks")
REGION = "eastus"


class AzureCloud:
    """The running stand-ins."""

    def __init__(self, arm: ArmProcess, prices: RetailFake, storage: Azurite, faults: StorageFaults) -> None:
        self.arm = arm
        self.prices = prices
        self.storage = storage
        self.faults = faults

    def trouble(self, share: float) -> None:
        """From now on this share of all calls fails, half of them after they took effect; 0: none."""
        told = "<?xml version='1.0' encoding='utf-8'?><Error><Code>ServerBusy</Code><Message>busy</Message></Error>"
        self.faults.wire.fault = Fault(share=share, status=503, body=told) if share else None
        self.arm.fault(**({"share": share, "status": 503} if share else {}))

    def left(self) -> dict[str, list[str]]:
        """Everything that is still there, by kind; empty where nothing is."""
        state = self.arm.state()
        found = {
            "machines": [each["name"] for each in state["instances"]],
            "resources": state["resources"],
            "groups": state["groups"],
            "queues": self.storage.queues(),
            "blobs": self.storage.blobs(),
        }
        return {kind: names for kind, names in found.items() if names}


@contextmanager
def azure_cloud(
    folder: Path, storage: Azurite, *, seed: int = 1, guest_environment: Mapping[str, str] | None = None
) -> Iterator[AzureCloud]:
    """All of it, ended with the context; machines reach the storage account as commands do."""
    faults = StorageFaults(storage.queue_endpoint)
    with faults.wire.serving(), RetailFake() as prices:
        guests = {**storage_environment(storage, faults), **(guest_environment or {})}
        with ArmProcess(folder / "machines", guest_environment=guests, seed=seed) as arm:
            yield AzureCloud(arm, prices, storage, faults)


def storage_environment(storage: Azurite, faults: StorageFaults) -> dict[str, str]:
    """What points the SDK at the queues behind the proxy that lets calls fail."""
    return {
        "AZURE_STORAGE_CONNECTION_STRING": storage.connection_string.replace(storage.queue_endpoint, faults.endpoint)
    }


class AzureDesk:
    """A folder with the example's programs in it, and the command line at work there."""

    def __init__(self, folder: Path, cloud: AzureCloud) -> None:
        self.folder = folder
        self.results = folder / "results"
        self.environment = {
            **storage_environment(cloud.storage, cloud.faults),
            "CLOUD_TASKS_CACHE_DIR": str(folder / "cache"),
        }
        self._cloud = cloud
        self._started: list[subprocess.Popen[bytes]] = []
        folder.mkdir(parents=True, exist_ok=True)
        for program in _EXAMPLE.glob("worker_*.py"):
            shutil.copy(program, folder)

    def configure(self, *, sections: Mapping[str, Any] | None = None, environment: str = "", **run: Any) -> None:
        """Write `config.yml`; ``run`` adds or replaces keys, ``sections`` are those beside it."""
        settings = {
            "job_id": "addition",
            "region": REGION,
            "min_cpu": 2,
            "max_cpu": 2,
            "max_instances": 2,
            "scaling_check_interval": 1,
            "instance_termination_delay": 0,
            "max_runtime": 60,
            "startup_script": (
                f"export ADDITION_OUTPUT_DIR={self.results}\n{environment}\n"
                f"exec python3 {self.folder}/worker_addition.py --notice-interval 0.5\n"
            ),
            **run,
        }
        azure = {
            "subscription_id": SUBSCRIPTION,
            "management_endpoint": self._cloud.arm.url,
            "prices_endpoint": self._cloud.prices.url,
            "operation_poll_seconds": 0.05,
            "queue_poll_seconds": 0.5,
        }
        beside = {"provider": "azure", "azure": azure, **(sections or {})}
        # JSON is YAML.
        (self.folder / "config.yml").write_text(json.dumps({**beside, "run": settings}))

    def tasks(self, count: int) -> None:
        """Write `tasks.json`; task n adds n and 1."""
        numbers = range(1, count + 1)
        content = [{"id": f"task-{number:05d}", "data": {"num1": number, "num2": 1}} for number in numbers]
        (self.folder / "tasks.json").write_text(json.dumps(content))

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `cloud-tasks run`; what it prints goes to `out.log` and `err.log`."""
        with (self.folder / "out.log").open("ab") as out, (self.folder / "err.log").open("ab") as errors:
            process = subprocess.Popen(
                [str(_PROGRAM), "run", "--config", "config.yml", *arguments],
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )
        self._started.append(process)
        return process

    def run_job(self, *arguments: str, patience: float = 240) -> int:
        """`cloud-tasks run` to its end; its exit code."""
        return self.start(*arguments).wait(patience)

    def log(self) -> str:
        return (self.folder / "err.log").read_text()

    def done(self) -> int:
        """How many tasks have begun to write their result."""
        return sum(1 for _ in self.results.glob("*.txt"))

    def sums(self) -> dict[str, int]:
        """What the results say, by task."""
        return {file.stem: int(file.read_text()) for file in self.results.glob("*.txt")}

    def status(self) -> dict[str, Any]:
        """What `cloud-tasks status --json` says."""
        command = [str(_PROGRAM), "status", "--db-file", "addition.db", "--json"]
        answer = subprocess.run(command, cwd=self.folder, capture_output=True, check=True, timeout=60)
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    def close(self) -> None:
        """End what was started and still runs."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
