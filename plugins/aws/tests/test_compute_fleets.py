"""Launches that leave the choice among several offers to EC2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import attrs
import boto3
import pytest
from ec2_process import OverlayProcess

from cloud_tasks.errors import LaunchRefused, RefusalScope
from cloud_tasks.model import (
    Architecture,
    BootDisk,
    InstanceType,
    LaunchRequest,
    Money,
    Offer,
    PriceBreakdown,
    Purchase,
)
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks.testing import eventually
from cloud_tasks_aws.compute.opening import open_compute
from cloud_tasks_aws.settings import AwsSettings

PLACES = (("m5.large", "us-east-1c"), ("m5.large", "us-east-1a"), ("c5.large", "us-east-1b"))
"""Where the overlay's spot price is lowest: zone a, whatever the type."""


def offer(name: str, zone: str, purchase: Purchase) -> Offer:
    return Offer(
        instance_type=InstanceType(name=name, vcpus=2, memory_gb=4.0, architecture=Architecture.X86_64, zones=(zone,)),
        zone=zone,
        purchase=purchase,
        boot_disk=BootDisk(disk_type="gp3", size_gb=10),
        price=PriceBreakdown(cpu=Money("0.04")),
        priced_at=datetime.now(UTC),
    )


@pytest.fixture
def request_of() -> Callable[..., LaunchRequest]:
    job = f"job-{uuid4().hex[:8]}"

    def make(*, purchase: Purchase = Purchase.SPOT, **changes: Any) -> LaunchRequest:
        first, *others = (offer(name, zone, purchase) for name, zone in PLACES)
        request = LaunchRequest(
            client_token=uuid4().hex,
            job_id=job,
            offer=first,
            alternatives=tuple(others),
            startup_script="#!/bin/bash\necho arrived\nsleep 600\n",
            labels={"run": "r1"},
        )
        return attrs.evolve(request, **changes)

    return make


@pytest.fixture
def compute(aws_settings: AwsSettings, request_of: Callable[..., LaunchRequest]) -> Iterator[Compute]:
    job = request_of().job_id
    with open_compute(aws_settings, ComputeContext(job_id=job, region="us-east-1")) as compute:
        yield compute
        compute.terminate([each.instance_id for each in compute.instances(job)])


@pytest.fixture(scope="module")
def ec2(overlay_server: OverlayProcess) -> Iterator[Any]:
    keys: dict[str, Any] = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}
    client = boto3.client("ec2", endpoint_url=overlay_server.url, region_name="us-east-1", **keys)
    yield client
    client.close()


RequestOf = Callable[..., LaunchRequest]


def test_the_provider_chooses_and_the_instance_says_what(compute: Compute, request_of: RequestOf) -> None:
    request = request_of()
    launched = compute.launch(request)
    assert (launched.instance_type, launched.zone) == ("m5.large", "us-east-1a")
    assert launched.purchase is Purchase.SPOT
    assert (launched.client_token, launched.job_id) == (request.client_token, request.job_id)
    assert dict(launched.labels) == {"run": "r1"}
    eventually(lambda: "arrived" in compute.console_log(launched.instance_id))
    assert [each.instance_id for each in compute.instances(request.job_id)] == [launched.instance_id]


def test_what_is_sold_out_is_passed_over(overlay: OverlayProcess, compute: Compute, request_of: RequestOf) -> None:
    overlay.tell("stock-out", zone="us-east-1a")
    overlay.tell("stock-out", instance_type="c5.*")
    launched = compute.launch(request_of(purchase=Purchase.ON_DEMAND))
    assert (launched.instance_type, launched.zone) == ("m5.large", "us-east-1c")
    assert launched.purchase is Purchase.ON_DEMAND


def test_only_when_all_are_refused_is_the_request(
    overlay: OverlayProcess, compute: Compute, request_of: RequestOf
) -> None:
    overlay.tell("stock-out")
    with pytest.raises(LaunchRefused) as refused:
        compute.launch(request_of())
    assert (refused.value.scope, refused.value.reason) == (RefusalScope.OFFER, "InsufficientInstanceCapacity")


def test_one_token_starts_one_instance_of_all_that_would_do(compute: Compute, request_of: RequestOf) -> None:
    request = request_of()
    with ThreadPoolExecutor(4) as threads:
        ids = {each.instance_id for each in threads.map(compute.launch, [request] * 4)}
    assert {compute.launch(request).instance_id} == ids
    assert {each.instance_id for each in compute.instances(request.job_id)} == ids


def test_no_launch_template_is_left(overlay: OverlayProcess, compute: Compute, request_of: RequestOf, ec2: Any) -> None:
    compute.launch(request_of())
    overlay.tell("stock-out")
    with pytest.raises(LaunchRefused):
        compute.launch(request_of())
    assert ec2.describe_launch_templates()["LaunchTemplates"] == []


def test_an_interface_of_the_users_wish_goes_into_the_offers_subnet(
    aws_settings: AwsSettings, request_of: RequestOf
) -> None:
    own = attrs.evolve(aws_settings, public_address=True)
    request = request_of()
    with open_compute(own, ComputeContext(job_id=request.job_id, region="us-east-1")) as compute:
        launched = compute.launch(request)
        compute.terminate([launched.instance_id])
    assert launched.zone == "us-east-1a"
