"""Service account, role and grants of `cloud-tasks setup gcp`, and what others did to them."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from gcp_setup import BUCKET, MEMBER, READER, ROBOT, ROLE, item, make, missing, setup_of, undo
from project_admin import ProjectAdmin

from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks_gcp.permissions import WORKER
from cloud_tasks_gcp.settings import GcpSettings
from cloud_tasks_gcp.setup.controller import _caller


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


@pytest.mark.parametrize("is_shown", [True, False])
def test_role_of_a_name_that_google_keeps_has_a_remedy(project: ProjectAdmin, is_shown: bool) -> None:
    project.enabled.add("iam.googleapis.com")
    project.iam.purged.add("cloudTasksWorker")
    if is_shown:
        project.iam.add_role("cloudTasksWorker", includedPermissions=[], deleted=True)
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


def test_use_of_the_account_is_granted_to_a_known_caller(project: ProjectAdmin) -> None:
    me = "serviceAccount:controller@p.iam.gserviceaccount.com"
    project.iam.me = me
    project.iam.add_account(me.partition(":")[2])
    project.iam.add_account(ROBOT)
    policy = project.iam.policies[ROBOT]
    policy.add("roles/iam.serviceAccountUser", "user:kim@example.com", condition=CONDITION)
    before = copy.deepcopy(policy.bindings)
    project.lag = 2
    setup = setup_of(project, impersonate_service_account=me.partition(":")[2])
    make(setup)
    assert missing(setup) == {}
    assert policy.bindings == [*before, {"role": "roles/iam.serviceAccountUser", "members": [me]}]
    assert undo(setup)[f"service account {ROBOT}"] == "another program or person made it"
    assert ROBOT in project.iam.accounts


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
