"""`cloud-tasks setup gcp`: what it makes in a fake project, again, together with other persons, and removes."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_server import Fault
from gcp_setup import BUCKET, MEMBER, READER, ROBOT, ROLE, WRITES, item, make, missing, setup_of, undo
from project_admin import ProjectAdmin

from cloud_tasks.errors import CloudTasksError, CredentialsError, InputError, ProviderError
from cloud_tasks.plugin import SetupContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import SetupContract, SetupSubject
from cloud_tasks_gcp.permissions import SETUP, SETUP_UNDO, WORKER
from cloud_tasks_gcp.settings import GcpSettings
from cloud_tasks_gcp.setup import account


class TestSetup(SetupContract):
    @pytest.fixture
    def subject(self, project: ProjectAdmin) -> SetupSubject:
        return SetupSubject(backend=Registry(only=["gcp"]).compute("gcp"), settings=project.settings, region="us-east1")


def test_setup_shows_what_is_missing_and_changes_nothing(project: ProjectAdmin) -> None:
    found = missing(setup_of(project))
    assert found == {
        "services": "not enabled: compute.googleapis.com, cloudbilling.googleapis.com, "
        "cloudresourcemanager.googleapis.com, iam.googleapis.com, pubsub.googleapis.com, monitoring.googleapis.com",
        f"service account {ROBOT}": "the IAM API is disabled in project p",
        "role cloudTasksWorker": "the IAM API is disabled in project p",
        f"cloudTasksWorker for {ROBOT}": "the Cloud Resource Manager API is disabled in project p",
        f"bucket {BUCKET}": "missing",
        f"{READER} on {BUCKET}": "not granted",
        f"use of {ROBOT}": "the IAM API is disabled in project p",
        "network default": "the Compute Engine API is disabled in project p",
    }
    assert project.writes == []


@pytest.mark.parametrize("lag", [0, 3])
def test_setup_makes_everything_and_then_nothing(project: ProjectAdmin, lag: int) -> None:
    project.lag = lag
    setup = setup_of(project, SetupContext(region="us-central1"))
    make(setup)
    assert len(project.writes) >= WRITES
    project.lag = 0
    assert missing(setup) == {}
    assert project.policy.members(ROLE) == {MEMBER}
    assert project.policy.members("roles/owner") == {"user:sam@example.com"}
    assert project.iam.roles["cloudTasksWorker"]["includedPermissions"] == list(WORKER)
    assert project.iam.accounts[ROBOT]["description"].startswith("cloud-tasks")
    assert project.buckets.policies[BUCKET].members(READER) == {MEMBER}
    assert project.buckets.policies[BUCKET].members("roles/storage.legacyBucketOwner") == {"projectOwner:p"}
    bucket = project.buckets.resources[BUCKET]
    assert (bucket["location"], bucket["labels"]) == ("US-CENTRAL1", {"cloud-tasks-setup": "1"})
    assert bucket["iamConfiguration"] == {
        "uniformBucketLevelAccess": {"enabled": True},
        "publicAccessPrevention": "enforced",
    }
    assert bucket["lifecycle"]["rule"] == [
        {"action": {"type": "Delete"}, "condition": {"age": 14}},
        {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 1}},
    ]
    assert int(bucket["softDeletePolicy"]["retentionDurationSeconds"]) == 0
    project.writes.clear()
    make(setup_of(project))
    assert project.writes == []


def test_setup_records_the_settings_of_jobs(project: ProjectAdmin) -> None:
    setup = setup_of(project)
    assert setup.account == "project p"
    assert setup.identity == {"gcp.project_id": "p"}
    assert setup.settings == {"run.staging": f"gs://{BUCKET}/staging", "gcp.service_account": ROBOT}


def test_setup_without_a_project_names_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_tasks_gcp.setup.project_id", _no_project)
    backend = Registry(only=["gcp"]).compute("gcp")
    assert backend.setup is not None
    with pytest.raises(InputError, match="no Google Cloud project set"):
        backend.setup(GcpSettings(), SetupContext())


def _no_project(settings: GcpSettings) -> str:
    raise ProviderError("no Google Cloud project set")


def test_setup_for_a_queue_of_another_provider_needs_no_pubsub(project: ProjectAdmin) -> None:
    setup = setup_of(project, SetupContext(queue="nats"))
    make(setup)
    assert "pubsub.googleapis.com" not in project.enabled
    assert project.iam.roles == {}
    assert not [each for each in setup.items if "cloudTasksWorker" in each.subject]


def test_setup_survives_lost_responses(project: ProjectAdmin) -> None:
    project.server.fault = Fault(share=0.3, after_effect=1.0, status=503)
    make(setup_of(project))
    project.server.fault = None
    assert missing(setup_of(project)) == {}
    assert project.server.struck > 0
    assert project.policy.members(ROLE) == {MEMBER}


@pytest.mark.parametrize("write", range(WRITES))
def test_setup_by_two_persons_at_the_same_time_makes_everything_once(project: ProjectAdmin, write: int) -> None:
    project.meanwhile = [*[lambda: None] * write, lambda: make(setup_of(project))]
    make(setup_of(project))
    assert project.meanwhile == []
    assert missing(setup_of(project)) == {}
    assert [each["members"] for each in project.policy.bindings if each["role"] == ROLE] == [[MEMBER]]


@pytest.mark.parametrize("done", [2, 5])
def test_setup_after_a_crash_completes_the_items(project: ProjectAdmin, done: int) -> None:
    for each in setup_of(project).items[:done]:
        each.make()
    setup = setup_of(project)
    assert not set(missing(setup)) & {each.subject for each in setup.items[:done]}
    make(setup)
    assert missing(setup) == {}
    assert len(project.writes) == WRITES


def test_setup_without_a_sign_in_can_be_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    # Read from the environment when it is imported, which may have been long ago.
    monkeypatch.setattr("google.auth.compute_engine._metadata._NO_GCE_CHECK", True)
    backend = Registry(only=["gcp"]).compute("gcp")
    assert backend.setup is not None
    items = backend.setup(GcpSettings(project_id="p"), SetupContext()).items
    assert all(each.commands for each in items)
    for each in items:
        with pytest.raises(CredentialsError, match="no Google Cloud credentials found"):
            each.look()


@pytest.mark.parametrize("late", [False, True])
def test_services_without_billing_name_the_remedy(project: ProjectAdmin, late: bool) -> None:
    project.has_billing = late
    project.late_error = {"code": 9, "message": "Billing account for project '1234' is not found."} if late else {}
    with pytest.raises(ProviderError, match="project p has no billing account") as error:
        item(project, "services").make()
    assert "gcloud billing projects link p" in error.value.hint


@pytest.mark.parametrize(
    ("start", "permission"),
    [
        ("services", "serviceusage.services.enable"),
        ("service account", "iam.serviceAccounts.create"),
        ("role ", "iam.roles.create"),
        ("cloudTasksWorker for", "resourcemanager.projects.setIamPolicy"),
        ("bucket", "storage.buckets.create"),
        (READER, "storage.buckets.setIamPolicy"),
    ],
)
def test_make_without_a_permission_names_it_and_whom_to_ask(project: ProjectAdmin, start: str, permission: str) -> None:
    for each in setup_of(project).items:
        if each.subject.startswith(start):
            project.withheld = {permission}
            with pytest.raises(ProviderError, match=f"permission {permission} is missing") as error:
                each.make()
            assert error.value.hint.startswith("ask an owner of project p for it")
            return
        each.make()


def test_undo_removes_what_setup_made_and_can_be_repeated(project: ProjectAdmin) -> None:
    setup = setup_of(project)
    make(setup)
    kept = undo(setup)
    assert set(kept) == {"services", "role cloudTasksWorker", "network default"}
    assert "37 days" in kept["role cloudTasksWorker"]
    assert (project.iam.accounts, project.buckets.resources) == ({}, {})
    assert project.policy.bindings == [{"role": "roles/owner", "members": ["user:sam@example.com"]}]
    project.writes.clear()
    assert undo(setup) == kept
    assert project.writes == []
    make(setup)
    assert missing(setup) == {}


def test_permissions_of_the_person_are_those_of_all_calls(project: ProjectAdmin) -> None:
    me = "controller@p.iam.gserviceaccount.com"
    project.iam.me = f"serviceAccount:{me}"
    project.iam.add_account(me)
    project.iam.add_role("cloudTasksWorker", deleted=True, includedPermissions=[])
    setup = setup_of(project, impersonate_service_account=me)
    missing(setup)
    make(setup)
    project.iam.roles.clear()
    project.buckets.change(BUCKET, versioning={"enabled": True})
    make(setup)
    assert project.used - {""} == set(SETUP)
    undo(setup)
    assert project.used == {*SETUP, *SETUP_UNDO}


def test_guide_lists_the_permissions_of_the_person() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "providers" / "gcp.md").read_text(encoding="utf-8")
    assert {each for each in (*SETUP, *SETUP_UNDO) if f"`{each}`" not in guide} == set()


def test_network_is_never_made(project: ProjectAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_tasks_gcp.setup.network.CREATION", 0.05)
    project.enabled.add("compute.googleapis.com")
    project.networks.clear()
    network = item(project, "network")
    assert network.look() == "missing"
    with pytest.raises(InputError, match="no network default") as error:
        network.make()
    assert "set gcp.subnetwork" in error.value.hint
    assert project.writes == []
    subjects = [each.subject for each in setup_of(project, subnetwork="inner").items]
    assert "network default" not in subjects


def test_errors_after_patience_are_those_of_the_service(project: ProjectAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "PATIENCE", 0.05)
    with pytest.raises(CloudTasksError, match="the IAM API is disabled in project p"):
        item(project, "service account").make()
