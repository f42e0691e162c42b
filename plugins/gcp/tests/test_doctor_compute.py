"""What the doctor finds for instances, and what it advises, against services that answer and refuse as Google's do."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest
from billing_fake import google_error
from billing_project import GoogleFake, disabled
from cloud_wire import Wire

from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks_gcp.doctor import check_compute
from cloud_tasks_gcp.permissions import COMPUTE
from cloud_tasks_gcp.settings import GcpSettings

HERE = CheckContext(region="us-central1", zone="us-central1-a")


@pytest.fixture
def google() -> Iterator[GoogleFake]:
    with Wire().serving() as wire:
        yield GoogleFake(wire)


def check(settings: GcpSettings, context: CheckContext = HERE) -> dict[str, Finding]:
    """The findings by subject."""
    return {finding.subject: finding for finding in check_compute(settings, context)}


def wrong(findings: dict[str, Finding]) -> list[str]:
    return [subject for subject, finding in findings.items() if not finding.ok]


def test_a_project_in_which_all_is_well_has_no_problem_for_instances(google: GoogleFake) -> None:
    findings = check(google.settings)
    assert wrong(findings) == []
    assert list(findings) == [
        "credentials",
        "Compute Engine API",
        "quotas of the project",
        "region",
        "quotas of us-central1",
        "network",
        "permissions for instances",
        "service account of instances",
    ]


def test_a_service_that_is_off_comes_with_the_command_that_turns_it_on(google: GoogleFake) -> None:
    google.refused["/projects/p"] = disabled("compute.googleapis.com", "Compute Engine API")
    finding = check(google.settings)["Compute Engine API"]
    assert not finding.ok
    assert finding.message == "the Compute Engine API is off in the project p"
    assert finding.remedy == "run: gcloud services enable compute.googleapis.com --project p, and wait a minute"


def test_a_project_that_is_not_there_is_told(google: GoogleFake) -> None:
    finding = check(attrs.evolve(google.settings, project_id="q"))["Compute Engine API"]
    assert not finding.ok
    assert finding.message == "the project q does not exist, or these credentials may not use it"
    assert finding.remedy.startswith("run: gcloud projects list")


def test_a_missing_permission_is_named(google: GoogleFake) -> None:
    google.refused["/projects/p"] = google_error(
        403,
        "IAM_PERMISSION_DENIED",
        "Required 'compute.projects.get' permission for 'projects/p'",
        metadata={"permission": "compute.projects.get", "resource": "projects/p"},
    )
    finding = check(google.settings)["Compute Engine API"]
    assert finding.message.startswith("the permission compute.projects.get is missing for the Compute Engine API")
    assert "doctor --policy" in finding.remedy


def test_all_permissions_are_asked_for_at_once_and_those_that_lack_are_listed(google: GoogleFake) -> None:
    google.withheld = {"compute.instances.delete", "compute.disks.list"}
    finding = check(google.settings)["permissions for instances"]
    assert not finding.ok
    assert finding.message == f"2 of {len(COMPUTE)} are missing: compute.disks.list, compute.instances.delete"
    assert "doctor --provider gcp --policy" in finding.remedy


def test_permissions_that_cannot_be_asked_for_are_not_called_wrong(google: GoogleFake) -> None:
    google.refused["p:testIamPermissions"] = disabled(
        "cloudresourcemanager.googleapis.com", "Cloud Resource Manager API"
    )
    finding = check(google.settings)["permissions for instances"]
    assert finding.ok
    assert finding.message == "could not be asked: the Cloud Resource Manager API is off in the project p"
    assert "gcloud services enable cloudresourcemanager.googleapis.com" in finding.remedy


def test_a_region_that_is_not_there_is_told(google: GoogleFake) -> None:
    finding = check(google.settings, CheckContext(region="moon-west1"))["region"]
    assert (finding.ok, finding.message) == (False, "there is no region moon-west1")
    assert "gcloud compute regions list --project p" in finding.remedy


def test_a_region_that_is_not_chosen_is_told(google: GoogleFake) -> None:
    finding = check(google.settings, CheckContext())["region"]
    assert (finding.ok, finding.message) == (False, "no region is chosen")


def test_a_zone_alone_names_its_region(google: GoogleFake) -> None:
    assert check(google.settings, CheckContext(zone="us-central1-b"))["region"].ok


def test_a_zone_of_another_region_is_told(google: GoogleFake) -> None:
    finding = check(google.settings, CheckContext(region="us-central1", zone="us-east1-b"))["region"]
    assert (finding.ok, finding.message) == (False, "the region us-central1 has no zone us-east1-b")
    assert finding.remedy == "choose one of us-central1-a, us-central1-b, us-central1-c"


def test_a_quota_of_which_nothing_is_left_is_told(google: GoogleFake) -> None:
    google.used_up = {"IN_USE_ADDRESSES", "CPUS_ALL_REGIONS"}
    findings = check(google.settings)
    assert wrong(findings) == ["quotas of the project", "quotas of us-central1"]
    assert findings["quotas of us-central1"].message == "nothing is left of IN_USE_ADDRESSES (24 of 24 used)"
    assert "gcloud compute regions describe us-central1 --project p" in findings["quotas of us-central1"].remedy


def test_a_network_that_is_not_there_is_told(google: GoogleFake) -> None:
    finding = check(attrs.evolve(google.settings, network="lab"))["network"]
    assert (finding.ok, finding.message) == (False, "there is no network lab")
    assert "gcloud compute networks create lab" in finding.remedy


@pytest.mark.parametrize(("access", "address", "ok"), [(True, False, True), (False, True, True), (False, False, False)])
def test_instances_without_an_address_need_a_way_to_google(
    google: GoogleFake, access: bool, address: bool, ok: bool
) -> None:
    google.private_access = access
    finding = check(attrs.evolve(google.settings, subnetwork="private", external_address=address))["network"]
    assert finding.ok is ok
    assert ("--enable-private-ip-google-access" in finding.remedy) is not ok


def test_a_service_account_that_is_not_there_is_told(google: GoogleFake) -> None:
    finding = check(attrs.evolve(google.settings, service_account="nobody@p.iam.gserviceaccount.com"))[
        "service account of instances"
    ]
    assert not finding.ok
    assert finding.remedy == "run: gcloud iam service-accounts create nobody --project p"


def test_a_service_account_that_may_not_be_used_is_told(google: GoogleFake) -> None:
    google.withheld = {"iam.serviceAccounts.actAs"}
    finding = check(google.settings)["service account of instances"]
    assert not finding.ok
    assert "roles/iam.serviceAccountUser" in finding.remedy


def test_the_default_service_account_is_allowed_and_a_better_one_advised(google: GoogleFake) -> None:
    finding = check(attrs.evolve(google.settings, service_account=None))["service account of instances"]
    assert finding.ok
    assert "--service-account" in finding.message


def test_a_service_that_cannot_be_reached_is_a_finding(google: GoogleFake) -> None:
    google.wire.close()
    finding = check(google.settings)["Compute Engine API"]
    assert not finding.ok
    assert "cannot be reached" in finding.message


def test_a_stand_in_is_not_asked_about_what_it_does_not_have(google: GoogleFake) -> None:
    findings = check(GcpSettings(project_id="p", compute_endpoint=google.wire.url))
    assert "permissions for instances" not in findings
    assert "service account of instances" not in findings
    assert wrong(findings) == []
