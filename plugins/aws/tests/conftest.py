"""Fixtures: the EC2 fake (overlay over moto) in one process per session, and a job that launches there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import attrs
import boto3
import pytest
from ec2_launches import KEYS, RequestOf, offer, request_for
from ec2_process import OverlayProcess, overlay_process
from setup_site import SetupSite, cached_client

from cloud_tasks.model import LaunchRequest, ProvisioningModel
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import SetupSubject
from cloud_tasks_aws.compute import retries
from cloud_tasks_aws.compute.backend import Ec2Compute, open_compute
from cloud_tasks_aws.session import client
from cloud_tasks_aws.settings import AwsSettings
from cloud_tasks_aws.setup import account, account_setup

_accounts = itertools.count(210_000_000_001)


@pytest.fixture(scope="session")
def overlay_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OverlayProcess]:
    with overlay_process(tmp_path_factory.mktemp("ec2"), ["--page-limit", "2"]) as process:
        yield process


@pytest.fixture
def overlay(overlay_server: OverlayProcess) -> Iterator[OverlayProcess]:
    """The overlay without faults and with everything in stock."""
    yield overlay_server
    overlay_server.control("in-stock")
    overlay_server.control("faults")


@pytest.fixture
def aws_settings(overlay: OverlayProcess) -> AwsSettings:
    return AwsSettings(endpoint_url=overlay.url, access_key="AKIDEXAMPLE", secret_key="secret")


@pytest.fixture(scope="session")
def ec2(overlay_server: OverlayProcess) -> Iterator[Any]:
    """A client to inspect what the plugin created."""
    client = boto3.client("ec2", endpoint_url=overlay_server.url, region_name="us-east-1", **KEYS)
    yield client
    client.close()


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten retries: new resources are visible at once in the fake."""
    monkeypatch.setattr(retries, "_MAX_BACKOFF", 0.05)


@pytest.fixture
def job() -> str:
    return f"job-{uuid4().hex[:8]}"


@pytest.fixture
def context(job: str) -> ComputeContext:
    return ComputeContext(job_id=job, region="us-east-1")


@pytest.fixture
def compute(aws_settings: AwsSettings, context: ComputeContext) -> Iterator[Compute]:
    with open_compute(aws_settings, context) as compute:
        yield compute
        compute.terminate([each.instance_id for each in compute.instances(context.job_id)])


@pytest.fixture
def unreachable(aws_settings: AwsSettings, context: ComputeContext) -> Iterator[Compute]:
    """A backend whose endpoint refuses connections, without retries."""
    nowhere = attrs.evolve(aws_settings, endpoint_url="http://127.0.0.1:9", secret_key="not-to-be-shown")

    def create_client(service: str, region: str | None = None, *, once: bool = False) -> Any:
        return client(nowhere, service, region or "us-east-1", attempts=1)

    compute = Ec2Compute(nowhere, context, client=create_client, identity="none")
    yield compute
    compute.close()


@pytest.fixture
def request_of(job: str) -> RequestOf:
    def make(
        name: str = "t3.medium",
        zone: str = "us-east-1a",
        provisioning_model: ProvisioningModel = ProvisioningModel.ON_DEMAND,
        **changes: Any,
    ) -> LaunchRequest:
        return request_for(job, offer(name, zone, provisioning_model), **changes)

    return make


@pytest.fixture
def site(overlay: OverlayProcess, aws_settings: AwsSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[SetupSite]:
    """An account of its own in which nothing is set up."""
    monkeypatch.setattr(account, "_PAUSE", 0.001)
    monkeypatch.setattr(account, "client", cached_client)
    monkeypatch.setattr(account_setup, "client", cached_client)
    subject = SetupSubject(backend=Registry(only=["aws"]).compute("aws"), settings=aws_settings, region="us-east-1")
    site = SetupSite(overlay, str(next(_accounts)), subject)
    site.enter()
    yield site
    overlay.control("account")
