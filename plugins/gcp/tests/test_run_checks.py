"""Checks of a project before a run: what certainly prevents it, against fakes of Google's services."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from billing_fake import google_error
from billing_project import GoogleFake, disabled
from fake_server import Answer, FakeServer

from cloud_tasks.model import (
    Architecture,
    BootDisk,
    InstanceType,
    LaunchRequest,
    Offer,
    PriceBreakdown,
    ProvisioningModel,
)
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.registry import Registry
from cloud_tasks_gcp.settings import GcpSettings

REGISTRY = Registry(only=["gcp"])
LAUNCH = LaunchRequest(
    client_token="token",
    job_id="job",
    offer=Offer(
        instance_type=InstanceType(
            name="n2-standard-2", vcpus=2, memory_gb=8.0, architecture=Architecture.X86_64, zones=("us-central1-a",)
        ),
        zone="us-central1-a",
        provisioning_model=ProvisioningModel.ON_DEMAND,
        boot_disk=BootDisk(disk_type="pd-balanced", size_gb=10),
        price=PriceBreakdown(),
        priced_at=datetime(2026, 1, 1, tzinfo=UTC),
    ),
    startup_script="",
    labels={},
)


@pytest.fixture
def google() -> Iterator[GoogleFake]:
    with FakeServer().serving() as server:
        yield GoogleFake(server)


def findings(settings: GcpSettings) -> list[Finding]:
    context = CheckContext(queue="gcp", launch=LAUNCH)
    backends: list[Any] = [REGISTRY.queue("gcp"), REGISTRY.compute("gcp")]
    return [finding for backend in backends for finding in backend.check(settings, context)]


def problems(settings: GcpSettings) -> list[str]:
    """Return the subjects of the findings that prevent a run; each has a remedy."""
    found = [each for each in findings(settings) if not each.ok and each.prevents_run]
    assert all(each.remedy for each in found)
    return [each.subject for each in found]


def doubts(settings: GcpSettings) -> list[str]:
    return [each.subject for each in findings(settings) if not each.ok and not each.prevents_run]


def test_check_before_run_passes_for_complete_project(google: GoogleFake) -> None:
    found = findings(google.settings)
    assert [each for each in found if not each.ok] == []
    assert "Cloud Monitoring API" not in [each.subject for each in found]


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ({"network": "lab"}, "network"),
        ({"subnetwork": "lab"}, "network"),
        ({"service_account": "nobody@p.iam.gserviceaccount.com"}, "service account of instances"),
        ({"credentials_file": "missing.json", "compute_endpoint": "https://127.0.0.1:9"}, "credentials"),
    ],
)
def test_check_before_run_finds_wrong_settings(google: GoogleFake, changes: dict[str, Any], subject: str) -> None:
    assert problems(attrs.evolve(google.settings, **changes)) == [subject]


@pytest.mark.parametrize(
    ("withheld", "subject"),
    [
        ("compute.instances.create", "permissions for instances"),
        ("pubsub.topics.create", "permissions for queues"),
        ("iam.serviceAccounts.actAs", "service account of instances"),
    ],
)
def test_check_before_run_finds_missing_permissions(google: GoogleFake, withheld: str, subject: str) -> None:
    google.withheld = {withheld}
    assert problems(google.settings) == [subject]


@pytest.mark.parametrize(
    ("path", "service", "subject"),
    [
        ("/projects/p", "compute.googleapis.com", "Compute Engine API"),
        ("/topics", "pubsub.googleapis.com", "Pub/Sub API"),
    ],
)
def test_check_before_run_finds_disabled_services(google: GoogleFake, path: str, service: str, subject: str) -> None:
    google.refused[path] = disabled(service, subject)
    assert problems(google.settings) == [subject]


def test_check_before_run_is_not_prevented_by_permissions_of_smaller_resources(google: GoogleFake) -> None:
    google.withheld = {"compute.subnetworks.use"}
    assert (problems(google.settings), doubts(google.settings)) == ([], ["permissions for instances"])


@pytest.mark.parametrize(
    "refusal",
    [
        google_error(403, "IAM_PERMISSION_DENIED", "denied", metadata={"permission": "compute.projects.get"}),
        google_error(403, "RATE_LIMIT_EXCEEDED", "Quota exceeded"),
        Answer(status=503, body="try again"),
        Answer(status=200, body="<html>log in to the network</html>"),
    ],
)
@pytest.mark.parametrize("path", ["/projects/p", "/topics", "/networks/default", "/regions/us-central1"])
def test_check_before_run_is_not_prevented_by_what_it_cannot_read(
    google: GoogleFake, path: str, refusal: Answer
) -> None:
    google.refused[path] = refusal
    assert problems(google.settings) == []
    assert len(doubts(google.settings)) == 1


def test_check_before_run_is_not_prevented_by_exhausted_quotas_nor_an_outage(google: GoogleFake) -> None:
    google.exhausted = {"CPUS"}
    assert (problems(google.settings), doubts(google.settings)) == ([], ["quotas of us-central1"])
    google.server.close()
    assert problems(google.settings) == []
    assert doubts(google.settings) == ["Pub/Sub API", "Compute Engine API"]
