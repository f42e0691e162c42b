"""The whole of AWS that a job meets: SQS, EC2 with machines that run, the price list; and a desk to start jobs from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from ec2_process import OverlayProcess, overlay_process
from pricing_fake import PriceListFake
from sqs_standin import sqs_server

__all__ = ["CONTROLLER_KEY", "SECRET", "AwsCloud", "AwsDesk", "aws_cloud"]

_ROOT = Path(__file__).parents[4]
_EXAMPLE = _ROOT / "examples" / "parallel_addition"
_PRICES = _ROOT / "plugins" / "aws" / "tests" / "fixtures" / "price_list.json"
_PROGRAM = Path(sys.executable).with_name("cloud-tasks")
CONTROLLER_KEY = "AKIDCONTROLLER"
SECRET = "the-secret-of-the-controller"
_KEYS: dict[str, Any] = {"aws_access_key_id": "AKIDADMIN", "aws_secret_access_key": "admin"}
REGION = "us-east-1"
PROFILE = "workers"
QUEUE_PREFIX = "cloud-tasks-"


class AwsCloud:
    """The running stand-ins.

    Args:
        machines: Where the folders of the instances are.
        sqs_url: SQS itself.
        faulty_sqs_url: SQS as jobs see it: the overlay, which lets its faults strike there too.
    """

    def __init__(
        self, overlay: OverlayProcess, *, machines: Path, sqs_url: str, faulty_sqs_url: str, pricing_url: str
    ) -> None:
        self.overlay = overlay
        self.machines = machines
        self._sqs_url = sqs_url
        self._faulty_sqs_url = faulty_sqs_url
        self._pricing_url = pricing_url

    def environment(self, cache: Path) -> dict[str, str]:
        """What points a command at the stand-ins."""
        return {
            "AWS_ENDPOINT_URL": self.overlay.url,
            "AWS_ENDPOINT_URL_SQS": self._faulty_sqs_url,
            "AWS_ENDPOINT_URL_PRICING": self._pricing_url,
            "AWS_ACCESS_KEY_ID": CONTROLLER_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "CLOUD_TASKS_CACHE_DIR": str(cache),
        }

    def make_profile(self) -> None:
        """The instance profile that gives workers their role."""
        iam = boto3.client("iam", endpoint_url=self.overlay.url, region_name=REGION, **_KEYS)
        iam.create_role(RoleName=PROFILE, AssumeRolePolicyDocument="{}")
        iam.create_instance_profile(InstanceProfileName=PROFILE)
        iam.add_role_to_instance_profile(InstanceProfileName=PROFILE, RoleName=PROFILE)
        iam.close()

    def asked(self, *, by_controller: bool) -> set[str]:
        """The actions that were asked for at the overlay: with the controller's key, or with those of instances."""
        found = self.overlay.state()["asked"]
        return {action for key, action in found if (key == CONTROLLER_KEY if by_controller else key.startswith("ASIA"))}

    def queues(self) -> list[str]:
        """The addresses of the queues that there are."""
        sqs = boto3.client("sqs", endpoint_url=self._sqs_url, region_name=REGION, **_KEYS)
        found = [url for page in sqs.get_paginator("list_queues").paginate() for url in page.get("QueueUrls", ())]
        sqs.close()
        return found


@contextmanager
def aws_cloud(folder: Path, overlay_arguments: Sequence[str] = ()) -> Iterator[AwsCloud]:
    """All of it, ended with the context."""
    prices = PriceListFake(json.loads(_PRICES.read_text()), page=100)
    with sqs_server() as sqs_url, prices.wire.serving():
        arguments = [*overlay_arguments, "--upstream", f"sqs={sqs_url}"]
        with overlay_process(folder, arguments) as overlay:
            cloud = AwsCloud(
                overlay,
                machines=folder / "machines",
                sqs_url=sqs_url,
                faulty_sqs_url=overlay.url,
                pricing_url=prices.wire.url,
            )
            cloud.make_profile()
            yield cloud


class AwsDesk:
    """A folder with the example's programs in it, and the command line at work there.

    Args:
        environment: Besides the process's own.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.results = folder / "results"
        self.environment = environment
        self._started: list[subprocess.Popen[bytes]] = []
        folder.mkdir(parents=True, exist_ok=True)
        for program in _EXAMPLE.glob("worker_*.py"):
            shutil.copy(program, folder)

    def configure(self, *, sections: dict[str, Any] | None = None, environment: str = "", **run: object) -> None:
        """Write `config.yml`; ``run`` adds or replaces keys, ``sections`` are those beside it."""
        settings: dict[str, object] = {
            "job_id": "addition",
            "instance_types": ["^t3.medium$", "^c5.large$", "^m5.large$"],
            "boot_disk_types": ["gp3"],
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
        beside = {"provider": "aws", "aws": {"instance_profile": PROFILE}, **(sections or {})}
        # JSON is YAML.
        (self.folder / "config.yml").write_text(json.dumps({**beside, "run": settings}))

    def tasks(self, count: int) -> None:
        """Write `tasks.json`; task n adds n and 1."""
        numbers = range(1, count + 1)
        content = [{"id": f"task-{number:05d}", "data": {"num1": number, "num2": 1}} for number in numbers]
        (self.folder / "tasks.json").write_text(json.dumps(content))

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `cloud-tasks`; what it prints goes to `out.log` and `err.log`."""
        with (self.folder / "out.log").open("ab") as out, (self.folder / "err.log").open("ab") as errors:
            process = subprocess.Popen(
                [str(_PROGRAM), *arguments],
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
        return self.start(*self.run_arguments(*arguments)).wait(patience)

    def run_arguments(self, *arguments: str) -> tuple[str, ...]:
        return ("run", "--config", "config.yml", "--region", REGION, *arguments)

    def log(self) -> str:
        return (self.folder / "err.log").read_text()

    def sums(self) -> dict[str, int]:
        """What the results say, by task."""
        return {file.stem: int(file.read_text()) for file in self.results.glob("*.txt")}

    def result_count(self) -> int:
        """How many results there are, those included that are being written."""
        return sum(1 for _ in self.results.glob("*.txt"))

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
