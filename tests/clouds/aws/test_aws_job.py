"""End-to-end jobs against the AWS fakes: command line, SDK, HTTP and real workers."""

from __future__ import annotations

import json
import signal
from datetime import timedelta
from typing import Any

from aws_cloud import CONTROLLER_KEY, PROFILE, SECRET, AwsCloud, AwsJobFolder
from pubsub_emulator import leftovers, pubsub_emulator

from cloud_tasks.plugin import CheckContext
from cloud_tasks.testing import eventually
from cloud_tasks_aws.policies import policies
from cloud_tasks_aws.settings import AwsSettings


def expected_sums(count: int) -> dict[str, int]:
    return {f"task-{number:05d}": number + 1 for number in range(1, count + 1)}


def counts(status: dict[str, Any]) -> dict[str, int]:
    return {name: count for name, count in status["counts"].items() if count}


def assert_complete(job_folder: AwsJobFolder, cloud: AwsCloud, count: int) -> None:
    """Assert that every task is counted once, and no instance or queue exists."""
    assert job_folder.sums() == expected_sums(count)
    status = job_folder.status()
    assert (status["total"], counts(status), status["finished"]) == (count, {"completed": count}, True)
    assert cloud.overlay.alive() == []
    assert cloud.queues() == []


_ALWAYS_ALLOWED = {"sts:GetCallerIdentity"}
"""Needs no permission ("GetCallerIdentity", AWS Security Token Service API Reference); called by `doctor`."""


def assert_least_permissions(cloud: AwsCloud) -> None:
    """Assert that the printed policies allow every call that was made."""
    allowed = {
        name: {action for statement in json.loads(text)["Statement"] for action in statement["Action"]}
        for name, text in policies(AwsSettings(), CheckContext()).items()
        if name != "worker trust"
    }
    controller, worker = cloud.called(by_controller=True), cloud.called(by_controller=False)
    assert {"ec2:CreateFleet", "sqs:SendMessageBatch", "ssm:GetParameter"} <= controller
    assert {"sqs:ReceiveMessage", "sqs:DeleteMessageBatch"} <= worker
    assert {_permission(action) for action in controller} - _ALWAYS_ALLOWED <= allowed["controller"]
    assert {_permission(action) for action in worker} <= allowed["worker"]


def _permission(action: str) -> str:
    """Return the permission of a call; batch calls need that of the single call ("Amazon SQS API permissions")."""
    return action.removesuffix("Batch")


def assert_no_secret_anywhere(job_folder: AwsJobFolder, cloud: AwsCloud) -> None:
    """Assert that no key of the controller is in a log, in the database, or on an instance."""
    ids = [each["instance_id"] for each in cloud.overlay.state()["instances"]]
    local = [file for file in job_folder.folder.rglob("*") if file.is_file()]
    sent = [file for each in ids for file in cloud.machines.glob(f"{each}/**/*") if file.is_file()]
    assert any(file.suffix == ".db" for file in local)
    assert sent
    for file in local + sent:
        content = file.read_bytes()
        assert SECRET.encode() not in content, file
        assert CONTROLLER_KEY.encode() not in content, file


def test_aws_job_completes_every_task_once_and_leaves_no_resources(job_folder: AwsJobFolder, cloud: AwsCloud) -> None:
    job_folder.configure()
    job_folder.tasks(300)
    assert job_folder.run_job("--task-file", "tasks.json") == 0, job_folder.log()
    assert_complete(job_folder, cloud, 300)
    log = job_folder.log()
    assert "Selected instance type: c5.large (gp3)" in log
    price = "0.085 for the instance, 15 GB of gp3, as large as the image, at 0.08 for 730 hours, 0.005 for the address"
    assert "at $0.091644/hour" in log, price
    assert "Boot disk of 15 GB instead of 10 GB (total_boot_disk_size): image ami-" in log
    assert job_folder.status()["attempts"] == 300
    assert "CreateFleet" in cloud.overlay.state()["actions"], "several zones are available"
    assert_least_permissions(cloud)
    assert_no_secret_anywhere(job_folder, cloud)


def test_aws_spot_job_survives_interruption_and_controller_kill(job_folder: AwsJobFolder, cloud: AwsCloud) -> None:
    job_folder.configure(environment="export ADDITION_TASK_DELAY=0.1", use_spot=True, max_losses=50)
    job_folder.tasks(120)
    cloud.overlay.control("stock-out", zone="us-east-1a", provisioning_model="spot")
    controller = job_folder.start(*job_folder.run_arguments("--task-file", "tasks.json"))
    eventually(lambda: controller.poll() is not None or job_folder.result_count() >= 10, patience=timedelta(seconds=90))
    assert controller.poll() is None, job_folder.log()
    first = [each for each in cloud.overlay.state()["instances"] if each["state"] == "running"]
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    for each in first:
        cloud.overlay.control("interrupt", instance_id=each["instance_id"], notice=2.0)
    assert job_folder.run_job("--continue") == 0, job_folder.log()
    assert_complete(job_folder, cloud, 120)
    assert {each["spot"] for each in first} == {True}
    assert "us-east-1a" not in {each["zone"] for each in first}
    assert "in us-east-1a was refused: " in job_folder.log()
    assert f"Spot terminations: {len(first)} hosts" in (job_folder.folder / "out.log").read_text()


def test_aws_spot_prices_are_requested_again_while_the_job_runs(job_folder: AwsJobFolder, cloud: AwsCloud) -> None:
    settings = {"instance_profile": PROFILE, "spot_price_max_age_minutes": 0.02}
    job_folder.configure(
        sections={"aws": settings}, environment="export ADDITION_TASK_DELAY=2", use_spot=True, max_instances=1
    )
    job_folder.tasks(8)
    before = cloud.overlay.state()["actions"].count("DescribeSpotPriceHistory")
    assert job_folder.run_job("--task-file", "tasks.json") == 0, job_folder.log()
    assert_complete(job_folder, cloud, 8)
    assert cloud.overlay.state()["actions"].count("DescribeSpotPriceHistory") >= before + 3


def test_aws_queue_serves_local_instances(job_folder: AwsJobFolder, cloud: AwsCloud) -> None:
    job_folder.configure(
        sections={"compute": "local", "pricing": "local", "local": {"state_dir": str(job_folder.folder / "state")}},
        instance_types=[],
        boot_disk_types=[],
        max_cpu=2,
        max_instances=1,
    )
    job_folder.tasks(100)
    assert job_folder.run_job("--task-file", "tasks.json") == 0, job_folder.log()
    assert_complete(job_folder, cloud, 100)


def test_aws_instances_use_the_queue_of_another_cloud(job_folder: AwsJobFolder, cloud: AwsCloud) -> None:
    with pubsub_emulator() as address:
        job_folder.environment["PUBSUB_EMULATOR_HOST"] = address
        job_folder.configure(sections={"queue": "gcp", "gcp": {"project_id": "emulator"}})
        job_folder.tasks(100)
        assert job_folder.run_job("--task-file", "tasks.json") == 0, job_folder.log()
        assert_complete(job_folder, cloud, 100)
        assert leftovers(address, "emulator") == []


def test_aws_job_is_not_resumed_or_stopped_in_another_region(job_folder: AwsJobFolder, cloud: AwsCloud) -> None:
    # One instance: a launch under way when the controller is killed would add another one later.
    job_folder.configure(environment="export ADDITION_TASK_DELAY=5", max_instances=1)
    job_folder.tasks(40)
    controller = job_folder.start(*job_folder.run_arguments("--task-file", "tasks.json"))
    eventually(lambda: cloud.overlay.alive() != [], patience=timedelta(seconds=90))
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    before = cloud.overlay.alive()
    for command in (("run", "--continue"), ("stop",), ("stop", "--force"), ("cleanup", "--all", "--force")):
        refused = job_folder.run(*command, "--config", "config.yml", "--region", "us-west-2")
        assert refused.returncode == 2, refused.stderr
        assert 'region: the job was started with "us-east-1", and now has "us-west-2"' in refused.stderr
        assert cloud.overlay.alive() == before
    stopped = job_folder.run("stop", "--config", "config.yml", "--region", "us-east-1")
    assert (stopped.returncode, cloud.overlay.alive()) == (0, []), stopped.stderr
