"""`cloud-tasks setup gcp`: what it makes in a fake project, again, together with other persons, and removes."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from fake_server import Fault
from hypothesis import given
from hypothesis import strategies as st
from project_admin import ProjectAdmin, project_admin

from cloud_tasks.errors import CloudTasksError, CredentialsError, InputError, ProviderError
from cloud_tasks.plugin import AccountSetup, SetupContext, SetupItem
from cloud_tasks.registry import Registry
from cloud_tasks.testing import SetupContract, SetupSubject
from cloud_tasks_gcp import rest
from cloud_tasks_gcp.permissions import SETUP, SETUP_UNDO, WORKER, worker_address
from cloud_tasks_gcp.settings import GcpSettings
from cloud_tasks_gcp.setup import account
from cloud_tasks_gcp.setup.bucket import bucket_name
from cloud_tasks_gcp.setup.controller import _caller

ROBOT = "cloud-tasks-worker@p.iam.gserviceaccount.com"
MEMBER = f"serviceAccount:{ROBOT}"
ROLE = "projects/p/roles/cloudTasksWorker"
BUCKET = "cloud-tasks-p"
READER = "roles/storage.objectViewer"
ANYWHERE = SetupContext()
WRITES = 6
"""Number of writes of a setup in an empty project, without repetitions."""


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "PAUSE", 0.001)
    monkeypatch.setattr(rest, "_PAUSE", 0.001)


@pytest.fixture
def project() -> Iterator[ProjectAdmin]:
    with project_admin() as project:
        yield project


class TestSetup(SetupContract):
    @pytest.fixture
    def subject(self, project: ProjectAdmin) -> SetupSubject:
        return SetupSubject(backend=Registry(only=["gcp"]).compute("gcp"), settings=project.settings, region="us-east1")


def setup_of(project: ProjectAdmin, context: SetupContext = ANYWHERE, **settings: Any) -> AccountSetup:
    backend = Registry(only=["gcp"]).compute("gcp")
    assert backend.setup is not None
    return backend.setup(attrs.evolve(project.settings, **settings), context)


def item(project: ProjectAdmin, start: str, **settings: Any) -> SetupItem:
    (found,) = (each for each in setup_of(project, **settings).items if each.subject.startswith(start))
    return found


def missing(setup: AccountSetup) -> dict[str, str]:
    """Return what is missing, by the first word of the item."""
    return {each.subject: text for each in setup.items if (text := each.look())}


def make(setup: AccountSetup) -> None:
    for each in setup.items:
        each.make()


def undo(setup: AccountSetup) -> dict[str, str]:
    return {each.subject: text for each in reversed(setup.items) if (text := each.remove())}


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
    assert setup_of(project, SetupContext(region="us-east1")).settings == {**setup.settings, "run.region": "us-east1"}


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


@pytest.mark.parametrize(
    ("content", "member"),
    [
        ({"type": "authorized_user", "account": "kim@example.com"}, "user:kim@example.com"),
        ({"type": "authorized_user"}, ""),
    ],
)
def test_caller_is_that_of_the_credentials(tmp_path: Path, content: dict[str, str], member: str) -> None:
    file = tmp_path / "key.json"
    secrets = {"client_id": "x", "client_secret": "x", "refresh_token": "x"}
    file.write_text(json.dumps({**content, **secrets}))
    assert _caller(GcpSettings(project_id="p", credentials_file=file)) == member
    assert _caller(GcpSettings(impersonate_service_account="c@p")) == "serviceAccount:c@p"


def test_services_without_billing_name_the_remedy(project: ProjectAdmin) -> None:
    project.has_billing = False
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


def test_service_account_that_a_person_disabled_is_not_enabled(project: ProjectAdmin) -> None:
    make(setup_of(project))
    project.iam.accounts[ROBOT]["disabled"] = True
    robot = item(project, "service account")
    assert robot.look() == "disabled"
    with pytest.raises(InputError, match="disabled by a person"):
        robot.make()


def test_service_account_of_the_settings_is_used(project: ProjectAdmin) -> None:
    own = "own@q.iam.gserviceaccount.com"
    project.enabled.add("iam.googleapis.com")
    other = item(project, "service account", service_account=own)
    assert other.look() == "missing"
    with pytest.raises(InputError, match="not found"):
        other.make()
    project.iam.add_account(own)
    make(setup_of(project, service_account=own))
    assert project.policy.members(ROLE) == {f"serviceAccount:{own}"}
    assert list(project.iam.accounts) == [own]
    undo(setup_of(project, service_account=own))
    assert list(project.iam.accounts) == [own]
    assert project.policy.members(ROLE) == {f"serviceAccount:{own}"}


@pytest.mark.parametrize(
    ("use", "reason"),
    [("key", "has 1 key"), ("role", "has also roles/viewer"), ("instance", "1 instance has it")],
)
def test_service_account_that_is_used_stays(project: ProjectAdmin, use: str, reason: str) -> None:
    setup = setup_of(project)
    make(setup)
    if use == "key":
        project.iam.keys[ROBOT] = 1
    elif use == "role":
        project.policy.add("roles/viewer", MEMBER)
    else:
        project.instances.append({"name": "ct-job-1", "serviceAccounts": [{"email": ROBOT}]})
    assert undo(setup)[f"service account {ROBOT}"] == reason
    assert ROBOT in project.iam.accounts


def test_role_that_was_deleted_is_restored_and_completed(project: ProjectAdmin) -> None:
    project.enabled.add("iam.googleapis.com")
    project.iam.add_role("cloudTasksWorker", includedPermissions=[WORKER[0], "pubsub.topics.get"], deleted=True)
    role = item(project, "role ")
    assert role.look() == "deleted"
    role.make()
    assert role.look() == ""
    assert set(project.iam.roles["cloudTasksWorker"]["includedPermissions"]) == {*WORKER, "pubsub.topics.get"}


def test_role_that_another_person_changes_keeps_the_change(project: ProjectAdmin) -> None:
    project.enabled.add("iam.googleapis.com")
    project.iam.add_role("cloudTasksWorker", includedPermissions=[WORKER[0]])
    assert item(project, "role ").look() == f"lacks {', '.join(WORKER[1:])}"
    project.meanwhile = [lambda: project.iam.add_role("cloudTasksWorker", includedPermissions=["pubsub.topics.get"])]
    item(project, "role ").make()
    assert set(project.iam.roles["cloudTasksWorker"]["includedPermissions"]) == {*WORKER, "pubsub.topics.get"}


def test_role_of_a_name_that_google_keeps_has_a_remedy(project: ProjectAdmin) -> None:
    project.enabled.add("iam.googleapis.com")
    project.iam.purged.add("cloudTasksWorker")
    with pytest.raises(InputError, match="Google keeps its name for 37 days") as error:
        item(project, "role ").make()
    assert f"--member {MEMBER} --role roles/pubsub.subscriber" in error.value.hint


def test_role_that_a_person_disabled_is_not_enabled(project: ProjectAdmin) -> None:
    project.enabled.add("iam.googleapis.com")
    project.iam.add_role("cloudTasksWorker", includedPermissions=list(WORKER), stage="DISABLED")
    assert item(project, "role ").look() == "disabled"
    with pytest.raises(InputError, match="disabled by a person"):
        item(project, "role ").make()


CONDITION = {"title": "working hours", "expression": "request.time.getHours() < 18"}


@pytest.mark.parametrize("kind", ["project", "bucket"])
def test_grant_keeps_everything_else_in_the_policy(project: ProjectAdmin, kind: str) -> None:
    setup = setup_of(project)
    make(setup)
    undo(setup)
    make_all_but_grants = [each for each in setup.items if each.subject.startswith(("service", "role ", "bucket"))]
    for each in make_all_but_grants:
        each.make()
    policy, role = (project.policy, ROLE) if kind == "project" else (project.buckets.policies[BUCKET], READER)
    grant = item(project, "cloudTasksWorker for" if kind == "project" else READER)
    assert grant.look() == "not granted"
    policy.add(role, MEMBER, condition=CONDITION)
    policy.add("roles/viewer", "group:team@example.com")
    policy.add("roles/editor", "deleted:serviceAccount:old@p.iam.gserviceaccount.com?uid=123")
    before = copy.deepcopy(policy.bindings)
    assert grant.look() == "granted under a condition"
    project.meanwhile = [lambda: policy.add("roles/browser", "user:kim@example.com")]
    grant.make()
    assert grant.look() == ""
    assert [binding for binding in before if binding not in policy.bindings] == []
    assert policy.members("roles/browser") == {"user:kim@example.com"}
    assert policy.members(role) == {MEMBER}
    assert grant.remove() == ""
    assert policy.members(role) == set()
    assert [binding for binding in before if binding not in policy.bindings] == []


def test_grant_removal_keeps_other_members(project: ProjectAdmin) -> None:
    setup = setup_of(project)
    make(setup)
    next(each for each in project.policy.bindings if each["role"] == ROLE)["members"].append("user:kim@example.com")
    undo(setup)
    assert project.policy.members(ROLE) == {"user:kim@example.com"}


def test_bucket_of_another_project_is_refused(project: ProjectAdmin) -> None:
    project.buckets.add(BUCKET, number="99")
    bucket = item(project, "bucket")
    assert bucket.look() == "its name belongs to another project"
    with pytest.raises(InputError, match="belongs to another project") as error:
        bucket.make()
    assert "set run.staging" in error.value.hint
    assert bucket.remove() == ""
    assert project.writes == []


def test_bucket_whose_name_is_taken_meanwhile_is_refused(project: ProjectAdmin) -> None:
    project.meanwhile = [lambda: project.buckets.add(BUCKET, number="99")]
    with pytest.raises(InputError, match="belongs to another project"):
        item(project, "bucket").make()


OURS: dict[str, Any] = {"labels": {"cloud-tasks-setup": "1"}}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "public": ({"iamConfiguration": {"publicAccessPrevention": "inherited"}}, "public access is possible"),
    "lists": (
        {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": False}}},
        "objects may have access lists of their own",
    ),
    "kept": (
        {"lifecycle": {"rule": [{"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 1}}]}},
        "objects are kept",
    ),
    "late": (
        {"lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 15}}]}},
        "objects are kept, incomplete uploads are kept",
    ),
    "soft": ({"softDeletePolicy": {"retentionDurationSeconds": "604800"}}, "deleted objects are kept for 7 days"),
    "versions": ({"versioning": {"enabled": True}}, "former versions of objects are kept"),
    "payer": ({"billing": {"requesterPays": True}}, "its readers pay"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bucket_that_was_changed_is_corrected(project: ProjectAdmin, name: str) -> None:
    changes, problem = WRONG[name]
    bucket = item(project, "bucket")
    bucket.make()
    project.buckets.change(BUCKET, **changes)
    assert bucket.look() == problem
    project.meanwhile = [lambda: project.buckets.change(BUCKET, labels={"team": "moon"})]
    bucket.make()
    assert bucket.look() == ""
    resource = project.buckets.resources[BUCKET]
    assert resource["labels"] == {"cloud-tasks-setup": "1", "team": "moon"}
    for rule in changes.get("lifecycle", {}).get("rule", ()):
        assert rule in resource["lifecycle"]["rule"]


def test_bucket_of_another_person_in_the_project_is_used_but_not_changed(project: ProjectAdmin) -> None:
    project.buckets.add(BUCKET)
    bucket = item(project, "bucket")
    assert bucket.look().startswith("made by another program or person: public access is possible, ")
    with pytest.raises(InputError, match="made by another program or person") as error:
        bucket.make()
    assert "--update-labels cloud-tasks-setup=1" in error.value.hint
    assert project.writes == []
    project.buckets.change(BUCKET, **OURS)
    bucket.make()
    project.buckets.resources[BUCKET]["labels"] = {}
    assert bucket.look() == ""
    assert bucket.remove() == "another program or person made it"


@pytest.mark.parametrize(
    ("count", "reason"), [(1, "has 1 object"), (3, "has 3 objects"), (1001, "has more than 1,000 objects")]
)
def test_bucket_with_objects_stays(project: ProjectAdmin, count: int, reason: str) -> None:
    setup = setup_of(project)
    make(setup)
    project.buckets.objects[BUCKET] = [f"staging/{number}" for number in range(count)]
    assert undo(setup)[f"bucket {BUCKET}"] == reason


def test_bucket_that_gets_an_object_meanwhile_stays(project: ProjectAdmin) -> None:
    bucket = item(project, "bucket")
    bucket.make()
    project.meanwhile = [lambda: project.buckets.objects[BUCKET].append("staging/code")]
    assert bucket.remove() == "has objects"


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


def test_use_of_the_account_is_granted_to_a_known_caller(project: ProjectAdmin) -> None:
    me = "serviceAccount:controller@p.iam.gserviceaccount.com"
    project.iam.me = me
    project.iam.add_account(me.partition(":")[2])
    setup = setup_of(project, impersonate_service_account=me.partition(":")[2])
    make(setup)
    assert project.iam.policies[ROBOT].members("roles/iam.serviceAccountUser") == {me}
    assert missing(setup) == {}


def test_use_of_the_account_by_an_unknown_caller_names_the_command(project: ProjectAdmin) -> None:
    project.iam.me = "user:sam@example.com"
    with pytest.raises(InputError, match=r"iam\.serviceAccounts\.actAs is missing") as error:
        make(setup_of(project))
    assert error.value.hint.startswith("ask an owner of project p to run: gcloud iam service-accounts add-iam-policy")


def test_use_of_the_account_that_cannot_be_granted_names_the_command(project: ProjectAdmin) -> None:
    project.iam.me = "serviceAccount:controller@p.iam.gserviceaccount.com"
    project.withheld = {"iam.serviceAccounts.setIamPolicy"}
    with pytest.raises(ProviderError, match=r"permission iam\.serviceAccounts\.setIamPolicy is missing") as error:
        make(setup_of(project, impersonate_service_account="controller@p.iam.gserviceaccount.com"))
    assert error.value.hint.startswith("ask an owner of project p to run: gcloud iam service-accounts add-iam-policy")


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


@given(st.from_regex(r"\A(?:[a-z0-9-]{1,40}\.[a-z]{2,5}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]\Z"))
def test_bucket_name_is_valid_for_every_project(project_id: str) -> None:
    assert re.fullmatch(r"(?!.*g[o0]{2}g[l1]e)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", bucket_name(project_id))


def test_bucket_name_has_the_project() -> None:
    assert bucket_name("my-project") == "cloud-tasks-my-project"
    assert bucket_name("example.com:my-project") == "cloud-tasks-example-com-my-project"
    for odd in ("google.com:moon", "my-g00gle-1", "d" * 40 + ".com:" + "p" * 30):
        assert re.fullmatch(r"cloud-tasks-[0-9a-f]{20}", bucket_name(odd))


def test_worker_address_of_a_project_of_a_domain_is_turned_around() -> None:
    assert worker_address(GcpSettings(), "p") == ROBOT
    assert worker_address(GcpSettings(), "example.com:p") == "cloud-tasks-worker@p.example.com.iam.gserviceaccount.com"
