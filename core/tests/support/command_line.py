"""Run ``cloud-tasks`` in a separate process and folder, with the provider ``local``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.model import (
    Architecture,
    BootDisk,
    Instance,
    InstanceType,
    LaunchRequest,
    Offer,
    PriceBreakdown,
    ProvisioningModel,
)
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks.registry import Registry

CONFIGURATION = """
provider: local
run:
  job_id: {job_id}
  max_instances: 1
  scaling_check_interval: 0.5
  instance_termination_delay: 0
  startup_script: |
    {script}
local:
  vcpus: 2
  price_per_cpu_hour: 0.5
  shutdown_grace: 0.5
"""


@attrs.frozen(kw_only=True)
class Finished:
    """Result of a command."""

    code: int
    out: str
    err: str


class CommandLine:
    """Folder in which commands are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []

    def configure(self, *, script: str = "sleep 600", job_id: str = "job", more: str = "") -> None:
        """Write ``config.yml``; ``more`` is appended to it."""
        text = CONFIGURATION.format(job_id=job_id, script=script.replace("\n", "\n    "))
        (self.folder / "config.yml").write_text(text + more, encoding="utf-8")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if "CLOUD_TASKS" not in name}
        process = subprocess.Popen(
            [sys.executable, "-c", "from cloud_tasks.cli.main import main; main()", *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def run(self, *arguments: str, timeout: float = 60.0) -> Finished:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=timeout)
        return Finished(code=process.returncode, out=out, err=err)

    def compute(self) -> Compute:
        """Return the compute backend of this folder."""
        backend = Registry().compute("local")
        settings = backend.settings(state_dir=self.folder / ".cloud-tasks", vcpus=2, shutdown_grace=0.5)
        return backend.open(settings, ComputeContext(job_id="")).__enter__()

    def launch(self, token: str, *, job_id: str = "job", **labels: str) -> Instance:
        """Start an instance that sleeps."""
        kind = InstanceType(
            name="local-1", vcpus=1, memory_gb=1.0, architecture=Architecture.X86_64, zones=("local-a",)
        )
        offer = Offer(
            instance_type=kind,
            zone="local-a",
            provisioning_model=ProvisioningModel.ON_DEMAND,
            boot_disk=BootDisk(disk_type="", size_gb=10.0),
            price=PriceBreakdown(),
            priced_at=datetime.now(UTC),
        )
        request = LaunchRequest(
            client_token=token, job_id=job_id, offer=offer, startup_script="exec sleep 600", labels=labels
        )
        return self.compute().launch(request)

    def running(self, job_id: str | None = None) -> set[str]:
        return {instance.instance_id for instance in self.compute().instances(job_id)}

    def clean_up(self) -> None:
        """Terminate leftover processes and instances of a test."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.compute().terminate(sorted(self.running()))


def wait_until(condition: Callable[[], Any], *, patience: timedelta = timedelta(seconds=30)) -> Any:
    """Poll until the condition is true; return its value. Fail the test on timeout."""
    deadline = time.monotonic() + patience.total_seconds()
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("condition not met before the timeout")
