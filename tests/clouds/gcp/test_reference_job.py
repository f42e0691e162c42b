"""The reference example's command on fakes of Google Cloud, run once; then its log, results, calls and leftovers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest
from gcp_job_folder import ACCOUNT, REFERENCE_OPTIONS, GcpJobFolder, gcp_job_folder

from cloud_tasks_gcp.permissions import COMPUTE

JOB = "parallel-addition-job"
FOLDER = "examples/parallel_addition"
COUNT = 300
KEY_NAME = "not-for-any-machine"
"""Name and content of the controller's key file."""

CONFIGURATION = """\
Loading configuration from examples/parallel_addition/config.yml
Starting pool management for job: parallel-addition-job
Provider configuration:
  Provider: GCP
  Region: us-central1
  Zone: None
  Job ID: parallel-addition-job
  Queue: parallel-addition-job-RUN-1
Instance type selection constraints:
  Instance types: None
  CPUs: 8 to 8
  Memory: None to None GB
  Memory per CPU: 2.0 to None GB
  Boot disk types: None
  Boot disk total size: 10.0 GB
  Boot disk base size: 0.0 GB
  Boot disk per CPU: None GB
  Boot disk per task: None GB
  Local SSD: None to None GB
  Local SSD per CPU: None to None GB
  Local SSD per task: None to None GB
Number of instances constraints:
  Total CPUs: None to None
  CPUs per task: 1.0
    Tasks per instance: None to None
    Simultaneous tasks: None to None
  Total price per hour: None to $10.00
  Pricing: On-demand instances
Miscellaneous:
  Scaling check interval: 60 seconds
  Instance termination delay: 60 seconds
  Max runtime: 60 seconds
  Max parallel instance creations: 10
  Image: None
  Startup script:
"""
"""Expected log lines before the first action, in this order; other lines may be in between."""

EXPECTED_LOG = (
    r'Initializing GCP Pub/Sub queue "parallel-addition-job-RUN-1" with project ID "fake-project"',
    r"Using no credentials \(emulator at 127\.0\.0\.1:\d+\)",
    r"Using current default image: https://www\.googleapis\.com/compute/v1/projects/ubuntu-os-cloud/global/images/\S+",
    r"\|\| Selected instance type: e2-standard-8 \(pd-standard\) in us-central1-\* at \$0\.27359[0-9]/hour",
    r"\|\|   8 vCPUs, 32\.0 GB RAM, no local SSD",
    r"\|\| Derived boot disk size: 10\.0 GB",
    r"\|\| Derived number of tasks per instance: 8",
    r"Checking if scaling is needed\.\.\.",
    r"Starting \d new instances? for an incremental price of \$[0-9.]+/hour",
    r"Started on-demand instance 'ct-parallel-addition-job-[0-9a-z]{25}' in zone 'us-central1-[abcf]'",
    r"Successfully provisioned 5 of 5 requested instances",
)

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (?:INFO|WARNING) - (?P<text>.*)")

REQUIRED_PERMISSIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"GET projects/[^/]+", ("projects.get",)),
    (r"GET .*/regions", ("regions.list",)),
    (r"GET .*/regions/[^/]+", ("regions.get",)),
    (r"GET .*/global/images/family/[^/]+", ("images.getFromFamily",)),
    (r"GET .*/aggregated/instances", ("instances.list",)),
    (r"GET .*/(aggregated|zones/[^/]+)/disks", ("disks.list",)),
    (r"GET .*/machineTypes", ("machineTypes.list",)),
    (r"GET .*/zones/[^/]+/instances/[^/]+", ("instances.get",)),
    (r"GET .*/serialPort", ("instances.getSerialPortOutput",)),
    (r"POST .*/operations/[^/]+/wait", ("zoneOperations.get",)),
    (r"DELETE .*/instances/[^/]+", ("instances.delete",)),
    (r"DELETE .*/disks/[^/]+", ("disks.delete",)),
    (
        r"POST .*/zones/[^/]+/instances",
        (
            *("instances.create", "instances.setLabels", "instances.setMetadata", "instances.setServiceAccount"),
            *("disks.create", "disks.setLabels", "images.useReadOnly", "subnetworks.use", "subnetworks.useExternalIp"),
        ),
    ),
)
"""Permissions that each call requires ("Compute Engine API", the reference page of each method)."""


@attrs.frozen(kw_only=True)
class Finished:
    """A finished job."""

    job_folder: GcpJobFolder
    tasks: list[dict[str, Any]]
    ran: subprocess.CompletedProcess[str]

    def log(self) -> list[str]:
        """Return the log lines without their timestamps; RUN: the run id in the name of the job's queue."""
        run_id = self.job_folder.status(JOB)["queue"].split("-")[-2]
        lines = self.ran.stderr.replace(f"{JOB}-{run_id}-", f"{JOB}-RUN-").splitlines()
        return [match["text"] for line in lines if (match := LINE.fullmatch(line))]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, emulator: str) -> Iterator[Finished]:
    with gcp_job_folder(tmp_path_factory.mktemp("job_folder"), emulator=emulator) as job_folder:
        tasks = job_folder.copy_example(COUNT)
        key = job_folder.folder / f"{KEY_NAME}.json"
        key.write_text(f'{{"private_key": "{KEY_NAME}"}}')
        job_folder.environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(key)
        what = ("--config", f"{FOLDER}/config.yml", "--task-file", f"{FOLDER}/addition_tasks.json")
        ran = job_folder.run("run", *what, "--db-file", f"{JOB}.db", *REFERENCE_OPTIONS)
        assert ran.returncode == 0, ran.stderr
        yield Finished(job_folder=job_folder, tasks=tasks, ran=ran)


def test_job_completes_every_task_once(job: Finished) -> None:
    assert job.job_folder.sums() == {each["id"]: each["data"]["num1"] + each["data"]["num2"] for each in job.tasks}
    status = job.job_folder.status(JOB)
    assert {state: count for state, count in status["counts"].items() if count} == {"completed": COUNT}


def test_job_leaves_nothing_in_cloud(job: Finished) -> None:
    assert job.job_folder.left_in_the_cloud() == []


def test_log_shows_configuration(job: Finished) -> None:
    wanted = CONFIGURATION.splitlines()
    known = frozenset(wanted)
    assert [line for line in job.log() if line in known] == wanted


@pytest.mark.parametrize("line", EXPECTED_LOG)
def test_log_shows_job_steps(job: Finished, line: str) -> None:
    assert [each for each in job.log() if re.fullmatch(line, each)], job.ran.stderr


def test_log_shows_each_started_instance_once(job: Finished) -> None:
    started = [each["name"] for each in job.job_folder.gce.state()["inserts"]]
    reported = [match[1] for line in job.log() if (match := re.match(r"Started on-demand instance '(\S+)' in", line))]
    assert len(started) == 5
    assert sorted(reported) == sorted(started)


def test_report_counts_all_tasks(job: Finished) -> None:
    lines = job.ran.stdout.splitlines()
    assert [line for line in lines if line in ("=== JOB COMPLETE ===", f"Total tasks: {COUNT}")] != []
    assert f"  Completed: {COUNT}" in lines
    assert "Spot terminations: 0 hosts" in lines


def test_controller_key_reaches_no_instance_and_no_log(job: Finished) -> None:
    machines = list((job.job_folder.folder / "machines").glob("ct-*"))
    written = [file for machine in machines for file in machine.rglob("*") if file.is_file()]
    assert {file.name for file in written} >= {"startup-script", "console.log"}
    texts = [file.read_text(errors="replace") for file in written]
    assert [text for text in (*texts, job.ran.stderr, job.ran.stdout) if KEY_NAME in text] == []


def test_calls_need_only_permissions_of_controller_role(job: Finished) -> None:
    called: list[str] = [re.sub(r" /compute/v1/", " ", each) for each in job.job_folder.gce.state()["called"]]
    assert [each for each in called if not permissions_of(each)] == []
    assert {f"compute.{name}" for each in called for name in permissions_of(each)} <= set(COMPUTE)


def permissions_of(call: str) -> tuple[str, ...]:
    """Return the required permissions of a call; the last matching rule is the most specific."""
    found = [needs for pattern, needs in REQUIRED_PERMISSIONS if re.fullmatch(pattern, call)]
    return found[-1] if found else ()


def test_instances_have_configured_service_account(job: Finished) -> None:
    assert {account for each in job.job_folder.gce.state()["inserts"] for account in each["accounts"]} == {ACCOUNT}


def test_instances_have_owner_and_expiry_labels(job: Finished) -> None:
    labels: list[Mapping[str, str]] = [each["labels"] for each in job.job_folder.gce.state()["inserts"]]
    assert {each["cloud-tasks-job"] for each in labels} == {JOB}
    assert all(each["cloud-tasks-owner"] and int(each["cloud-tasks-expires"]) for each in labels)
