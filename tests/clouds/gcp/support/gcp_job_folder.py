"""Working directory for Google Cloud: the command line, and fakes of Pub/Sub, Compute Engine and the Billing Catalog,
each called with its real SDK."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from billing_fake import serving as billing
from fake_server import Fault
from gce_process import GceProcess
from gce_records import Times
from job_folder import EXAMPLE, JobFolder
from pubsub_emulator import leftovers, pubsub_emulator
from pubsub_faults import failing_pubsub

__all__ = ["ACCOUNT", "PROJECT", "REFERENCE_OPTIONS", "GcpJobFolder", "gcp_job_folder"]

PROJECT = "fake-project"
ACCOUNT = f"worker@{PROJECT}.iam.gserviceaccount.com"
REFERENCE_OPTIONS = (
    *("--provider", "gcp", "--project-id", PROJECT, "--service-account", ACCOUNT),
    *("--region", "us-central1", "--min-cpu", "8", "--max-cpu", "8", "--min-memory-per-cpu", "2"),
    *("--max-instances", "5"),
)
"""Options of the reference example's command."""


class GcpJobFolder(JobFolder):
    """Working directory with fakes of Google Cloud.

    Args:
        pubsub: ``host:port`` for clients, possibly of a fault proxy.
        direct_pubsub: ``host:port`` of the emulator itself.
    """

    def __init__(self, folder: Path, gce: GceProcess, *, pubsub: str, direct_pubsub: str, billing: str) -> None:
        super().__init__(
            folder,
            {
                "CLOUD_TASKS_CACHE_DIR": str(folder / "cache"),
                "CLOUD_TASKS_GCP_COMPUTE_ENDPOINT": gce.url,
                "CLOUD_TASKS_GCP_BILLING_ENDPOINT": billing,
                "PUBSUB_EMULATOR_HOST": pubsub,
            },
        )
        self.gce = gce
        self.price_fault: Callable[[Fault | None], None] = lambda fault: None
        """Sets a fault for calls to the Billing Catalog; None removes it."""
        self.count_faults: Callable[[], int] = lambda: 0
        """Returns the number of injected failures."""
        self._direct_pubsub = direct_pubsub

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

    def start(self, *arguments: str, log: Path | None = None) -> subprocess.Popen[str]:
        """Start `cloud-tasks` without waiting.

        Args:
            log: File for stderr; None for a pipe.
        """
        return self.begin(*arguments, errors=log)

    def left_in_the_cloud(self) -> list[str]:
        """Return every existing instance, disk, topic and subscription."""
        state = self.gce.state()
        machines = [each["name"] for each in state["instances"]]
        return [*machines, *state["disks"], *leftovers(self._direct_pubsub, PROJECT)]


@contextmanager
def gcp_job_folder(
    folder: Path, *, emulator: str | None = None, times: Times | None = None, faults: float = 0.0, seed: int = 1
) -> Iterator[GcpJobFolder]:
    """Yield a working directory whose fakes, with all instances, end with the context.

    Args:
        emulator: ``host:port`` of a running Pub/Sub emulator; None starts one.
        times: None for the defaults, with a lag of listings.
        faults: Share of all API calls that fail, half of them after their effect.
    """
    with ExitStack() as stack:
        emulator = pubsub = emulator or stack.enter_context(pubsub_emulator())
        catalog = stack.enter_context(billing())
        times = times or Times(listing=1.0)
        gce = stack.enter_context(GceProcess(folder / "machines", project=PROJECT, times=times, seed=seed))
        struck: list[Callable[[], int]] = []
        if faults:
            pubsub, proxy = stack.enter_context(failing_pubsub(emulator, seed=seed))
            proxy.share = faults
            catalog.server.fault = Fault(share=faults)
            gce.fault(share=faults, status=503)
            struck = [lambda: proxy.struck, lambda: catalog.server.struck, lambda: int(gce.state()["struck"])]
        job_folder = GcpJobFolder(folder, gce, pubsub=pubsub, direct_pubsub=emulator, billing=catalog.url)
        job_folder.price_fault = functools.partial(setattr, catalog.server, "fault")
        job_folder.count_faults = lambda: sum(count() for count in struck)
        stack.callback(job_folder.close)
        yield job_folder
