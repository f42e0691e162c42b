"""Doctor checks of instances and their fixes, against fakes of Google's services."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest
from billing_fake import google_error
from billing_project import DEFAULT, ROBOT, GoogleFake, disabled
from fake_server import FakeServer

from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks_gcp.doctor import check_compute
from cloud_tasks_gcp.permissions import COMPUTE
from cloud_tasks_gcp.settings import GcpSettings

HERE = CheckContext(region="us-central1", zone="us-central1-a")


@pytest.fixture
def google() -> Iterator[GoogleFake]:
    with FakeServer().serving() as server:
        yield GoogleFake(server)


def check(settings: GcpSettings, context: CheckContext = HERE) -> dict[str, Finding]:
    """Return the findings by subject."""
    return {finding.subject: finding for finding in check_compute(settings, context)}


def failed(findings: dict[str, Finding]) -> list[str]:
    return [subject for subject, finding in findings.items() if not finding.ok]


def test_check_compute_passes_for_complete_project(google: GoogleFake) -> None:
    findings = check(google.settings)
    assert failed(findings) == []
    assert list(findings) == [
        "credentials",
        "project",
        "Compute Engine API",
        "quotas of the project",
        "region",
        "quotas of us-central1",
        "network",
        "permissions for instances",
        "service account of instances",
        "roles of the service account",
    ]


def test_check_compute_reports_disabled_service_with_fix(google: GoogleFake) -> None:
    google.refused["/projects/p"] = disabled("compute.googleapis.com", "Compute Engine API")
    finding = check(google.settings)["Compute Engine API"]
    assert not finding.ok
    assert finding.message == "the Compute Engine API is disabled in project p"
    assert finding.remedy == "run: gcloud services enable compute.googleapis.com --project p, and wait a minute"


def test_check_compute_reports_missing_project(google: GoogleFake) -> None:
    finding = check(attrs.evolve(google.settings, project_id="q"))["Compute Engine API"]
    assert not finding.ok
    assert finding.message == "project q does not exist or is not accessible with these credentials"
    assert finding.remedy.startswith("run: gcloud projects list")


def test_check_compute_names_missing_permission(google: GoogleFake) -> None:
    google.refused["/projects/p"] = google_error(
        403,
        "IAM_PERMISSION_DENIED",
        "Required 'compute.projects.get' permission for 'projects/p'",
        metadata={"permission": "compute.projects.get", "resource": "projects/p"},
    )
    finding = check(google.settings)["Compute Engine API"]
    assert finding.message.startswith("permission compute.projects.get is missing for the Compute Engine API")
    assert "doctor --policy" in finding.remedy


def test_check_compute_lists_missing_permissions(google: GoogleFake) -> None:
    google.withheld = {"compute.instances.delete", "compute.disks.list"}
    finding = check(google.settings)["permissions for instances"]
    assert not finding.ok
    assert finding.message == f"2 of {len(COMPUTE)} missing: compute.disks.list, compute.instances.delete"
    assert "doctor --provider gcp --policy" in finding.remedy


def test_check_compute_skips_unavailable_permission_check(google: GoogleFake) -> None:
    google.refused["p:testIamPermissions"] = disabled(
        "cloudresourcemanager.googleapis.com", "Cloud Resource Manager API"
    )
    finding = check(google.settings)["permissions for instances"]
    assert finding.ok
    assert finding.message == "not checked: the Cloud Resource Manager API is disabled in project p"
    assert "gcloud services enable cloudresourcemanager.googleapis.com" in finding.remedy


def test_check_compute_reports_missing_region(google: GoogleFake) -> None:
    finding = check(google.settings, CheckContext(region="moon-west1"))["region"]
    assert (finding.ok, finding.message) == (False, "region moon-west1 not found")
    assert "gcloud compute regions list --project p" in finding.remedy


def test_check_compute_reports_unset_region(google: GoogleFake) -> None:
    finding = check(google.settings, CheckContext())["region"]
    assert (finding.ok, finding.message) == (False, "no region set")


def test_check_compute_derives_region_from_zone(google: GoogleFake) -> None:
    assert check(google.settings, CheckContext(zone="us-central1-b"))["region"].ok


def test_check_compute_reports_zone_of_other_region(google: GoogleFake) -> None:
    finding = check(google.settings, CheckContext(region="us-central1", zone="us-east1-b"))["region"]
    assert (finding.ok, finding.message) == (False, "region us-central1 has no zone us-east1-b")
    assert finding.remedy == "choose one of us-central1-a, us-central1-b, us-central1-c"


def test_check_compute_reports_exhausted_quotas(google: GoogleFake) -> None:
    google.exhausted = {"IN_USE_ADDRESSES", "CPUS_ALL_REGIONS"}
    findings = check(google.settings)
    assert failed(findings) == ["quotas of the project", "quotas of us-central1"]
    assert findings["quotas of us-central1"].message == "exhausted: IN_USE_ADDRESSES (24 of 24 used)"
    assert "gcloud compute regions describe us-central1 --project p" in findings["quotas of us-central1"].remedy


def test_check_compute_reports_missing_network(google: GoogleFake) -> None:
    finding = check(attrs.evolve(google.settings, network="lab"))["network"]
    assert (finding.ok, finding.message) == (False, "network lab not found")
    assert "gcloud compute networks create lab" in finding.remedy


@pytest.mark.parametrize(("access", "address", "ok"), [(True, False, True), (False, True, True), (False, False, False)])
def test_check_compute_requires_private_google_access_without_external_address(
    google: GoogleFake, access: bool, address: bool, ok: bool
) -> None:
    google.private_access = access
    finding = check(attrs.evolve(google.settings, subnetwork="private", external_address=address))["network"]
    assert finding.ok is ok
    assert ("--enable-private-ip-google-access" in finding.remedy) is not ok


def test_check_compute_reports_missing_service_account(google: GoogleFake) -> None:
    finding = check(attrs.evolve(google.settings, service_account="nobody@p.iam.gserviceaccount.com"))[
        "service account of instances"
    ]
    assert not finding.ok
    assert finding.remedy == "run: gcloud iam service-accounts create nobody --project p"


def test_check_compute_reports_unusable_service_account(google: GoogleFake) -> None:
    google.withheld = {"iam.serviceAccounts.actAs"}
    finding = check(google.settings)["service account of instances"]
    assert not finding.ok
    assert "roles/iam.serviceAccountUser" in finding.remedy


def test_check_compute_accepts_default_service_account_with_advice(google: GoogleFake) -> None:
    google.roles["roles/editor"].append(f"serviceAccount:{DEFAULT}")
    findings = check(attrs.evolve(google.settings, service_account=None))
    assert failed(findings) == []
    assert "--service-account" in findings["service account of instances"].message
    assert findings["roles of the service account"].message == "roles/editor"


@pytest.mark.parametrize(("named", "email"), [(None, DEFAULT), (ROBOT, ROBOT)])
def test_check_compute_reports_service_account_without_roles(google: GoogleFake, named: str | None, email: str) -> None:
    google.roles = {"roles/editor": ["user:sam@example.com"]}
    findings = check(attrs.evolve(google.settings, service_account=named))
    assert failed(findings) == ["roles of the service account"]
    finding = findings["roles of the service account"]
    assert finding.message == f"{email} has no role in project p, so workers cannot receive tasks"
    assert "--policy" in finding.remedy
    assert finding.prevents_run is (named is None)


def test_check_compute_skips_unreadable_roles(google: GoogleFake) -> None:
    google.refused["p:getIamPolicy"] = google_error(403, "IAM_PERMISSION_DENIED", "denied")
    finding = check(attrs.evolve(google.settings, service_account=None))["roles of the service account"]
    assert finding.ok
    assert finding.message.startswith("not checked: ")


def test_check_compute_reports_unreachable_service(google: GoogleFake) -> None:
    google.server.close()
    finding = check(google.settings)["Compute Engine API"]
    assert not finding.ok
    assert finding.message.startswith("cannot reach ")


def test_check_compute_skips_checks_that_emulator_lacks(google: GoogleFake) -> None:
    findings = check(GcpSettings(project_id="p", compute_endpoint=google.server.url))
    assert "permissions for instances" not in findings
    assert "service account of instances" not in findings
    assert failed(findings) == []
