"""AWS fakes for whole jobs: SQS, EC2 with running instances, the price list; and a working folder for jobs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from ec2_process import OverlayProcess, overlay_process
from job_folder import LoggingJobFolder
from pricing_fake import PriceListFake
from sqs_emulator import sqs_server

__all__ = ["CONTROLLER_KEY", "REGION", "SECRET", "AwsCloud", "AwsJobFolder", "aws_cloud"]

_ROOT = Path(__file__).parents[4]
_PRICES = _ROOT / "plugins" / "aws" / "tests" / "fixtures" / "price_list.json"
CONTROLLER_KEY = "AKIDCONTROLLER"
SECRET = "the-secret-of-the-controller"
_KEYS: dict[str, Any] = {"aws_access_key_id": "AKIDADMIN", "aws_secret_access_key": "admin"}
REGION = "us-east-1"
PROFILE = "workers"
QUEUE_PREFIX = "cloud-tasks-"


class AwsCloud:
    """The running fakes.

    Args:
        machines: Parent of the instances' folders.
        sqs_url: URL of the SQS emulator.
        faulty_sqs_url: URL of SQS for jobs: the overlay, which injects its faults there too.
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
        """Return the environment that points commands at the fakes."""
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

    def create_profile(self) -> None:
        """Create the instance profile of the workers' role."""
        iam = boto3.client("iam", endpoint_url=self.overlay.url, region_name=REGION, **_KEYS)
        iam.create_role(RoleName=PROFILE, AssumeRolePolicyDocument="{}")
        iam.create_instance_profile(InstanceProfileName=PROFILE)
        iam.add_role_to_instance_profile(InstanceProfileName=PROFILE, RoleName=PROFILE)
        iam.close()

    def called(self, *, by_controller: bool) -> set[str]:
        """Return the actions called at the overlay with the controller's key, or with those of instances."""
        found = self.overlay.state()["called"]
        return {action for key, action in found if (key == CONTROLLER_KEY if by_controller else key.startswith("ASIA"))}

    def queues(self) -> list[str]:
        """Return the URLs of all queues."""
        sqs = boto3.client("sqs", endpoint_url=self._sqs_url, region_name=REGION, **_KEYS)
        found = [url for page in sqs.get_paginator("list_queues").paginate() for url in page.get("QueueUrls", ())]
        sqs.close()
        return found


@contextmanager
def aws_cloud(folder: Path, overlay_arguments: Sequence[str] = ()) -> Iterator[AwsCloud]:
    """Run all fakes; they end with the context."""
    prices = PriceListFake(json.loads(_PRICES.read_text()), page=100)
    with sqs_server() as sqs_url, prices.server.serving():
        arguments = [*overlay_arguments, "--upstream", f"sqs={sqs_url}"]
        with overlay_process(folder, arguments) as overlay:
            cloud = AwsCloud(
                overlay,
                machines=folder / "machines",
                sqs_url=sqs_url,
                faulty_sqs_url=overlay.url,
                pricing_url=prices.server.url,
            )
            cloud.create_profile()
            yield cloud


class AwsJobFolder(LoggingJobFolder):
    """A working folder for jobs on AWS."""

    def configure(self, *, sections: dict[str, Any] | None = None, environment: str = "", **run: object) -> None:
        """Write `config.yml`; ``run`` adds or replaces keys of that section, ``sections`` adds others."""
        settings: dict[str, object] = {
            "job_id": "addition",
            "instance_types": ["^c5.large$", "^m5.large$", "^r5.large$"],
            "boot_disk_types": ["gp3"],
            "max_instances": 2,
            "scaling_check_interval": 1,
            "instance_termination_delay": 0,
            "max_runtime": 60,
            "startup_script": self.startup_script(
                "worker_addition.py", "--notice-interval 0.5", environment=environment
            ),
            **run,
        }
        others = {"provider": "aws", "aws": {"instance_profile": PROFILE}, **(sections or {})}
        self.write_config({**others, "run": settings})

    def run_job(self, *arguments: str, timeout: float = 240) -> int:
        """Run `cloud-tasks run` and return its exit code."""
        return self.start(*self.run_arguments(*arguments)).wait(timeout)

    def run_arguments(self, *arguments: str) -> tuple[str, ...]:
        return ("run", "--config", "config.yml", "--region", REGION, *arguments)
