"""Working directory for Google Cloud: the command line, and fakes of Pub/Sub, Compute Engine and the Billing Catalog,
each called with its real SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import yaml
from billing_fake import BillingFake
from billing_fake import serving as billing
from fake_server import Fault
from gce_process import GceProcess
from gce_records import Times
from job_folder import EXAMPLE, LoggingJobFolder
from pubsub_emulator import leftovers, pubsub_emulator
from pubsub_faults import PubSubFaults, failing_pubsub

__all__ = ["ACCOUNT", "PROJECT", "REFERENCE_OPTIONS", "GcpJobFolder", "gcp_job_folder"]

PROJECT = "fake-project"
ACCOUNT = f"worker@{PROJECT}.iam.gserviceaccount.com"
REFERENCE_OPTIONS = (
    *("--provider", "gcp", "--project-id", PROJECT, "--service-account", ACCOUNT),
    *("--region", "us-central1", "--min-cpu", "8", "--max-cpu", "8", "--min-memory-per-cpu", "2"),
    *("--max-instances", "5"),
)
"""Options of the reference example's command."""


class GcpJobFolder(LoggingJobFolder):
    """Working directory with fakes of Google Cloud.

    Args:
        pubsub: ``host:port`` for clients, possibly of the fault proxy.
        direct_pubsub: ``host:port`` of the emulator itself.
        proxy: Faults of the fault proxy.
    """

    def __init__(
        self,
        folder: Path,
        gce: GceProcess,
        billing: BillingFake,
        *,
        pubsub: str,
        direct_pubsub: str,
        proxy: PubSubFaults | None = None,
    ) -> None:
        super().__init__(
            folder,
            {
                "CLOUD_TASKS_CACHE_DIR": str(folder / "cache"),
                "CLOUD_TASKS_GCP_COMPUTE_ENDPOINT": gce.url,
                "CLOUD_TASKS_GCP_BILLING_ENDPOINT": billing.url,
                "PUBSUB_EMULATOR_HOST": pubsub,
            },
        )
        self.gce = gce
        self.billing = billing
        self._direct_pubsub = direct_pubsub
        self._proxy = proxy

    def configure(self, *, worker: str = "worker_addition.py", environment: str = "", **run: object) -> Path:
        """Write `config.yml`; ``run`` adds keys."""
        settings: dict[str, object] = {
            "job_id": "addition",
            "max_runtime": 30,
            "startup_script": self.startup_script(worker, environment=environment),
            **run,
        }
        return self.write_config({"run": settings})

    def copy_example(self, count: int) -> list[dict[str, Any]]:
        """Copy the example with its first tasks and a startup script that only starts the program; return the tasks."""
        folder = self.folder / "examples" / EXAMPLE.name
        folder.mkdir(parents=True)
        config = yaml.safe_load((EXAMPLE / "config.yml").read_text())
        config["run"]["startup_script"] = self.startup_script("worker_addition.py")
        (folder / "config.yml").write_text(yaml.safe_dump(config))
        tasks: list[dict[str, Any]] = json.loads((EXAMPLE / "addition_tasks.json").read_text())[:count]
        (folder / "addition_tasks.json").write_text(json.dumps(tasks))
        return tasks

    def fail(self, fault: Fault, code: grpc.StatusCode) -> None:
        """Make a share of the calls of all fakes fail, those of Pub/Sub with a code of gRPC."""
        self.gce.fault(share=fault.share, status=fault.status, body=fault.body)
        self.billing.server.fault = fault
        if self._proxy is not None:
            self._proxy.share, self._proxy.code = fault.share, code

    def count_faults(self) -> int:
        """Return the number of injected failures."""
        proxy = self._proxy.struck if self._proxy is not None else 0
        return proxy + self.billing.server.struck + int(self.gce.state()["struck"])

    def left_in_the_cloud(self) -> list[str]:
        """Return every existing instance, disk, topic and subscription."""
        state = self.gce.state()
        machines = [each["name"] for each in state["instances"]]
        return [*machines, *state["disks"], *leftovers(self._direct_pubsub, PROJECT)]


@contextmanager
def gcp_job_folder(
    folder: Path, *, emulator: str | None = None, times: Times | None = None, faults: bool = False, seed: int = 1
) -> Iterator[GcpJobFolder]:
    """Yield a working directory whose fakes, with all instances, end with the context.

    Args:
        emulator: ``host:port`` of a running Pub/Sub emulator; None starts one.
        times: None for the defaults, with a lag of listings.
        faults: Whether calls to Pub/Sub can fail, by `GcpJobFolder.fail`.
    """
    with ExitStack() as stack:
        emulator = pubsub = emulator or stack.enter_context(pubsub_emulator())
        catalog = stack.enter_context(billing())
        times = times or Times(listing=1.0)
        gce = stack.enter_context(GceProcess(folder / "machines", project=PROJECT, times=times, seed=seed))
        proxy: PubSubFaults | None = None
        if faults:
            pubsub, proxy = stack.enter_context(failing_pubsub(emulator, seed=seed))
        job_folder = GcpJobFolder(folder, gce, catalog, pubsub=pubsub, direct_pubsub=emulator, proxy=proxy)
        stack.callback(job_folder.close)
        yield job_folder
