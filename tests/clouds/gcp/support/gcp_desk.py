"""A person's desk with Google Cloud behind it: the command line, and stand-ins for Pub/Sub, Compute Engine and the
Billing Catalog, each reached over its real SDK."""

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
from cloud_desk import EXAMPLE, Desk
from cloud_wire import Fault
from gce_process import GceProcess
from gce_records import Times
from pubsub_emulator import leftovers, pubsub_emulator
from pubsub_faults import failing_pubsub

__all__ = ["ACCOUNT", "ASKED", "PROJECT", "GcpDesk", "gcp_desk"]

PROJECT = "stand-in"
ACCOUNT = f"worker@{PROJECT}.iam.gserviceaccount.com"
ASKED = (
    *("--provider", "gcp", "--project-id", PROJECT, "--service-account", ACCOUNT),
    *("--region", "us-central1", "--min-cpu", "8", "--max-cpu", "8", "--min-memory-per-cpu", "2"),
    *("--max-instances", "5"),
)
"""The options of the reference's own command."""


class GcpDesk(Desk):
    """A desk that knows its cloud.

    Args:
        pubsub: ``host:port``.
        direct_pubsub: The same without anything in between.
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
        """Lets calls to the Billing Catalog fail from now on."""
        self.count_faults: Callable[[], int] = lambda: 0
        """How many calls have failed on purpose."""
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

    def lay_out_the_example(self, count: int) -> list[dict[str, Any]]:
        """Copy the example with its first tasks; on its machines nothing but the program is started.

        Returns the tasks.
        """
        folder = self.folder / "examples" / EXAMPLE.name
        folder.mkdir(parents=True)
        config = yaml.safe_load((EXAMPLE / "config.yml").read_text())
        config["run"]["startup_script"] = self.startup_script("worker_addition.py")
        (folder / "config.yml").write_text(yaml.safe_dump(config))
        tasks: list[dict[str, Any]] = json.loads((EXAMPLE / "addition_tasks.json").read_text())[:count]
        (folder / "addition_tasks.json").write_text(json.dumps(tasks))
        return tasks

    def start(self, *arguments: str, log: Path | None = None) -> subprocess.Popen[str]:
        """Start `cloud-tasks` and go on.

        Args:
            log: Where its error output goes; None: it can be read from the process.
        """
        return self.begin(*arguments, errors=log)

    def left_in_the_cloud(self) -> list[str]:
        """Every instance, disk, topic and subscription that there is."""
        state = self.gce.state()
        machines = [each["name"] for each in state["instances"]]
        return [*machines, *state["disks"], *leftovers(self._direct_pubsub, PROJECT)]


@contextmanager
def gcp_desk(
    folder: Path, *, emulator: str | None = None, times: Times | None = None, faults: float = 0.0, seed: int = 1
) -> Iterator[GcpDesk]:
    """A desk whose cloud ends with it, all machines included.

    Args:
        emulator: ``host:port`` of a Pub/Sub emulator that runs already; None: one of the desk's own.
        faults: The share of all API calls that fail, half of them after they took effect.
    """
    with ExitStack() as stack:
        emulator = pubsub = emulator or stack.enter_context(pubsub_emulator())
        catalog = stack.enter_context(billing())
        gce = stack.enter_context(GceProcess(folder / "machines", project=PROJECT, times=times, seed=seed))
        struck: list[Callable[[], int]] = []
        if faults:
            pubsub, proxy = stack.enter_context(failing_pubsub(emulator, seed=seed))
            proxy.share = faults
            catalog.wire.fault = Fault(share=faults)
            gce.fault(share=faults, status=503)
            struck = [lambda: proxy.struck, lambda: catalog.wire.struck, lambda: int(gce.state()["struck"])]
        desk = GcpDesk(folder, gce, pubsub=pubsub, direct_pubsub=emulator, billing=catalog.url)
        desk.price_fault = functools.partial(setattr, catalog.wire, "fault")
        desk.count_faults = lambda: sum(count() for count in struck)
        stack.callback(desk.close)
        yield desk
