"""The overlay over moto: behaviour that moto lacks. The plugin's own tests cover the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from ec2_process import OverlayProcess, overlay_process

from cloud_tasks.testing import eventually

KEYS: dict[str, Any] = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}
IMAGE = "ami-04681a1dbd79675a5"
POLLING = """#!/usr/bin/env python3
import os, time, urllib.error, urllib.request
base = os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] + "/latest/"
def ask(method, path, name, value):
    request = urllib.request.Request(base + path, method=method, headers={name: value})
    return urllib.request.urlopen(request).read().decode()
token = ask("PUT", "api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
while True:
    try:
        print(ask("GET", "meta-data/spot/instance-action", "X-aws-ec2-metadata-token", token), flush=True)
    except urllib.error.HTTPError as error:
        assert error.code == 404
    time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OverlayProcess]:
    """An overlay whose instances boot slowly."""
    with overlay_process(tmp_path_factory.mktemp("ec2"), ["--boot", "0.5"]) as overlay:
        yield overlay


@pytest.fixture
def ec2(slow: OverlayProcess) -> Iterator[Any]:
    client = boto3.client(
        "ec2",
        endpoint_url=slow.url,
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}),
        **KEYS,
    )
    yield client
    slow.control("faults")
    client.close()


LAUNCH: dict[str, Any] = {"ImageId": IMAGE, "InstanceType": "t3.medium", "MinCount": 1, "MaxCount": 1}


def run(ec2: Any, **changes: Any) -> str:
    return str(ec2.run_instances(**{**LAUNCH, **changes})["Instances"][0]["InstanceId"])


def state(ec2: Any, instance_id: str) -> str:
    found = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
    return str(found["State"]["Name"])


def processes_of(overlay: OverlayProcess, instance_id: str) -> list[int]:
    """Return the local processes that belong to an instance."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if f"/imds/{instance_id}".encode() in environment:
            found.append(int(entry.name))
    return found


def test_overlay_instance_boots_runs_user_data_and_ends_its_processes(ec2: Any, slow: OverlayProcess) -> None:
    script = "#!/bin/bash\necho here\nsetsid sleep 600 &\nwait\n"
    launched = ec2.run_instances(**LAUNCH, UserData=script)["Instances"][0]
    assert launched["State"]["Name"] == "pending"
    found = launched["InstanceId"]
    eventually(lambda: state(ec2, found) == "running")
    eventually(lambda: ec2.get_console_output(InstanceId=found).get("Output") == "here\n")
    eventually(lambda: len(processes_of(slow, found)) >= 2)
    ec2.terminate_instances(InstanceIds=[found])
    assert state(ec2, found) in ("shutting-down", "terminated")
    eventually(lambda: state(ec2, found) == "terminated")
    assert processes_of(slow, found) == []


def test_overlay_power_off_stops_instance_without_terminate_behavior(ec2: Any) -> None:
    found = run(ec2, UserData="#!/bin/bash\nshutdown -h now\nsleep 600\n")
    eventually(lambda: state(ec2, found) == "stopped")


def test_overlay_interruption_is_preceded_by_a_notice(ec2: Any, slow: OverlayProcess) -> None:
    found = run(ec2, UserData=POLLING, InstanceMarketOptions={"MarketType": "spot"})
    eventually(lambda: state(ec2, found) == "running")
    slow.control("interrupt", instance_id=found, notice=2.0)
    eventually(lambda: '"action": "terminate"' in ec2.get_console_output(InstanceId=found).get("Output", ""))
    eventually(lambda: state(ec2, found) == "terminated")


def test_overlay_client_token_starts_one_instance_and_rejects_other_arguments(ec2: Any) -> None:
    token = uuid4().hex
    assert run(ec2, ClientToken=token) == run(ec2, ClientToken=token)
    with pytest.raises(ClientError, match="IdempotentParameterMismatch"):
        run(ec2, ClientToken=token, InstanceType="t3.large")


def test_overlay_cut_response_has_its_effect(ec2: Any, slow: OverlayProcess) -> None:
    token = uuid4().hex
    slow.control("faults", cut=1.0)
    with pytest.raises(HTTPClientError):
        run(ec2, ClientToken=token)
    slow.control("faults")
    reservations = ec2.describe_instances(Filters=[{"Name": "client-token", "Values": [token]}])["Reservations"]
    assert [each["InstanceId"] for each in reservations[0]["Instances"]] == [run(ec2, ClientToken=token)]


def test_overlay_listing_is_paged(ec2: Any) -> None:
    token = uuid4().hex[:8]
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "of", "Value": token}]}]
    ids = sorted(run(ec2, TagSpecifications=tags) for _ in range(3))
    arguments = {"Filters": [{"Name": "tag:of", "Values": [token]}], "MaxResults": 2}
    first = ec2.describe_instances(**arguments)
    second = ec2.describe_instances(**arguments, NextToken=first["NextToken"])
    assert "NextToken" not in second
    found = [i["InstanceId"] for page in (first, second) for r in page["Reservations"] for i in r["Instances"]]
    assert sorted(found) == ids
    with pytest.raises(ClientError, match="InvalidNextToken"):
        ec2.describe_instances(NextToken="made-up")


def test_overlay_spot_prices_are_current_per_zone(ec2: Any) -> None:
    arguments = {"InstanceTypes": ["c5.large"], "ProductDescriptions": ["Linux/UNIX"], "StartTime": datetime.now(UTC)}
    found = ec2.describe_spot_price_history(**arguments)["SpotPriceHistory"]
    prices = {each["AvailabilityZone"]: float(each["SpotPrice"]) for each in found}
    assert prices["us-east-1a"] < prices["us-east-1b"] < prices["us-east-1c"]
    assert all((datetime.now(UTC) - each["Timestamp"]).total_seconds() < 3600 for each in found)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ImageId": "ami-00000000000000000"}, r"InvalidAMIID\.NotFound"),
        ({"InstanceType": "t3.colossal"}, "InvalidParameterValue"),
        ({"InstanceType": "t4g.medium"}, "InvalidParameterValue"),
        ({"UserData": "#" * 16_385}, "InvalidParameterValue"),
        ({"DryRun": True}, "DryRunOperation"),
        ({"MetadataOptions": {"HttpTokens": "sometimes"}}, r"InvalidParameterValue.*MetadataOptions\.HttpTokens"),
    ],
)
def test_overlay_refuses_invalid_launches(ec2: Any, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError, match=code):
        run(ec2, **changes)


def test_overlay_close_ends_its_instances(tmp_path: Path) -> None:
    with overlay_process(tmp_path) as overlay:
        client = boto3.client("ec2", endpoint_url=overlay.url, region_name="us-east-1", **KEYS)
        found = run(client, UserData="#!/bin/bash\ntrap '' TERM\nsleep 600 &\nwait\nsleep 600\n")
        eventually(lambda: processes_of(overlay, found))
        pids = processes_of(overlay, found)
        client.close()
    assert not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids)
