"""A person's desk with Google Cloud behind it: the command line, and stand-ins for Pub/Sub, Compute Engine and the
Billing Catalog, each reached over its real SDK."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from billing_fake import serving as billing
from cloud_wire import Fault
from gce_process import GceProcess
from gce_records import Times
from pubsub_emulator import leftovers, pubsub_emulator
from pubsub_faults import failing_pubsub

__all__ = ["ACCOUNT", "ASKED", "PROJECT", "GcpDesk", "gcp_desk"]

PROJECT = "stand-in"
EXAMPLE = Path(__file__).parents[4] / "examples" / "parallel_addition"
PROGRAM = Path(sys.executable).with_name("cloud-tasks")
ACCOUNT = f"worker@{PROJECT}.iam.gserviceaccount.com"
ASKED = (
    *("--provider", "gcp", "--project-id", PROJECT, "--service-account", ACCOUNT),
    *("--region", "us-central1", "--min-cpu", "8", "--max-cpu", "8", "--min-memory-per-cpu", "2"),
    *("--max-instances", "5"),
)
"""The options of the reference's own command."""


class GcpDesk:
    """A folder with the example's programs in it.

    Args:
        pubsub: ``host:port``.
        direct_pubsub: The same without anything in between.
    """

    def __init__(self, folder: Path, gce: GceProcess, *, pubsub: str, direct_pubsub: str, billing: str) -> None:
        self.folder = folder
        self.gce = gce
        self.results = folder / "results"
        self.price_fault: Callable[[Fault | None], None] = lambda fault: None
        """Lets calls to the Billing Catalog fail from now on."""
        self.count_faults: Callable[[], int] = lambda: 0
        """How many calls have failed on purpose."""
        self._direct_pubsub = direct_pubsub
        self._started: list[subprocess.Popen[str]] = []
        self.environment = {
            "CLOUD_TASKS_CACHE_DIR": str(folder / "cache"),
            "CLOUD_TASKS_GCP_COMPUTE_ENDPOINT": gce.url,
            "CLOUD_TASKS_GCP_BILLING_ENDPOINT": billing,
            "PUBSUB_EMULATOR_HOST": pubsub,
        }
        for program in EXAMPLE.glob("worker_*.py"):
            shutil.copy(program, folder)

    def configure(self, *, worker: str = "worker_addition.py", environment: str = "", **run: object) -> Path:
        """Write `config.yml`; ``run`` adds keys."""
        settings: dict[str, object] = {
            "job_id": "addition",
            "max_runtime": 30,
            "startup_script": (
                f'export ADDITION_OUTPUT_DIR="{self.results}"\n{environment}\nexec python3 "{self.folder / worker}"\n'
            ),
            **run,
        }
        file = self.folder / "config.yml"
        # JSON is YAML.
        file.write_text(json.dumps({"run": settings}))
        return file

    def tasks(self, count: int) -> Path:
        """Write `tasks.json`; task n adds n and 1."""
        numbers = range(1, count + 1)
        content = [{"id": f"task-{number:05d}", "data": {"num1": number, "num2": 1}} for number in numbers]
        file = self.folder / "tasks.json"
        file.write_text(json.dumps(content))
        return file

    def lay_out_the_example(self, count: int) -> list[dict[str, Any]]:
        """Copy the example with its first tasks; on its machines nothing but the program is started.

        Returns the tasks.
        """
        folder = self.folder / "examples" / EXAMPLE.name
        folder.mkdir(parents=True)
        config = yaml.safe_load((EXAMPLE / "config.yml").read_text())
        program = f'export ADDITION_OUTPUT_DIR="{self.results}"\nexec python3 "{self.folder / "worker_addition.py"}"\n'
        config["run"]["startup_script"] = program
        (folder / "config.yml").write_text(yaml.safe_dump(config))
        tasks: list[dict[str, Any]] = json.loads((EXAMPLE / "addition_tasks.json").read_text())[:count]
        (folder / "addition_tasks.json").write_text(json.dumps(tasks))
        return tasks

    def sums(self) -> dict[str, int]:
        """What the results say, by task."""
        return {file.stem: int(file.read_text()) for file in self.results.glob("*.txt")}

    def start(self, *arguments: str, log: Path | None = None) -> subprocess.Popen[str]:
        """Start `cloud-tasks` and go on.

        Args:
            log: Where its error output goes; None: it can be read from the process.
        """
        with ExitStack() as stack:
            errors = subprocess.PIPE if log is None else stack.enter_context(log.open("a"))
            process = subprocess.Popen(
                [str(PROGRAM), *arguments],
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._started.append(process)
        return process

    def run(self, *arguments: str, patience: float = 240.0) -> subprocess.CompletedProcess[str]:
        """Run `cloud-tasks` to its end."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=patience)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def status(self, job_id: str = "addition") -> Mapping[str, Any]:
        """What `cloud-tasks status --json` says."""
        answer = self.run("status", "--db-file", f"{job_id}.db", "--json")
        assert answer.returncode == 0, answer.stderr
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    def left_in_the_cloud(self) -> list[str]:
        """Every instance, disk, topic and subscription that there is."""
        state = self.gce.state()
        machines = [each["name"] for each in state["instances"]]
        return [*machines, *state["disks"], *leftovers(self._direct_pubsub, PROJECT)]

    def close(self) -> None:
        """End what was started here."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


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
