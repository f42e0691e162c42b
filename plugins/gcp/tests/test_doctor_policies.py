"""Roles printed by ``doctor --policy``, and the guide that lists them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from cloud_tasks.plugin import CheckContext
from cloud_tasks.registry import Registry
from cloud_tasks_gcp.permissions import COMPUTE, CONTROLLER_QUEUE, WORKER
from cloud_tasks_gcp.settings import GcpSettings

GUIDE = Path(__file__).parents[3] / "docs" / "providers" / "gcp.md"


def printed(settings: GcpSettings, context: CheckContext | None = None) -> dict[str, str]:
    backend = Registry(only=["gcp"]).compute("gcp")
    assert backend.policies is not None
    return dict(backend.policies(settings, context or CheckContext()))


def test_policies_are_valid_role_documents() -> None:
    documents = printed(GcpSettings(project_id="p"))
    assert sorted(documents) == ["cloud-tasks-controller.yaml", "cloud-tasks-worker.yaml"]
    for text in documents.values():
        role = yaml.safe_load(text)
        assert sorted(role) == ["description", "includedPermissions", "stage", "title"]
        assert role["includedPermissions"] == sorted(set(role["includedPermissions"]))


def test_policies_controller_has_checked_permissions() -> None:
    role = yaml.safe_load(printed(GcpSettings(project_id="p"))["cloud-tasks-controller.yaml"])
    assert {*COMPUTE, *CONTROLLER_QUEUE} <= set(role["includedPermissions"])


def test_policies_worker_has_minimum_permissions() -> None:
    role = yaml.safe_load(printed(GcpSettings(project_id="p"))["cloud-tasks-worker.yaml"])
    assert role["includedPermissions"] == list(WORKER)
    assert not [each for each in WORKER if re.search(r"^compute\.|^iam\.|create|delete|update|setIamPolicy", each)]


@pytest.mark.parametrize("permission", sorted({*COMPUTE, *CONTROLLER_QUEUE, *WORKER}))
def test_permissions_are_well_formed(permission: str) -> None:
    assert re.fullmatch(r"(compute|pubsub|monitoring)\.[a-zA-Z]+\.[a-zA-Z]+", permission)


def test_policies_commands_name_accounts_of_settings() -> None:
    settings = GcpSettings(
        project_id="p", service_account="w@p.iam.gserviceaccount.com", impersonate_service_account="c@p"
    )
    documents = printed(settings)
    assert (
        "--member serviceAccount:c@p --role projects/p/roles/cloudTasksController"
        in (documents["cloud-tasks-controller.yaml"])
    )
    assert "add-iam-policy-binding w@p.iam.gserviceaccount.com" in documents["cloud-tasks-controller.yaml"]
    assert "--member serviceAccount:w@p.iam.gserviceaccount.com" in documents["cloud-tasks-worker.yaml"]


def test_policies_commands_grant_access_to_the_buckets_of_a_job() -> None:
    context = CheckContext(
        stores=("gs://results/a", "gs://results/logs", "s3://other/x"), downloads=("gs://code/x", "gs://results/b")
    )
    documents = printed(GcpSettings(project_id="p"), context)
    roles = {
        name.removeprefix("cloud-tasks-").removesuffix(".yaml"): re.findall(
            r"buckets add-iam-policy-binding (\S+) --member \S+ --role (\S+)", text
        )
        for name, text in documents.items()
    }
    assert roles == {
        "controller": [("gs://code", "roles/storage.objectUser"), ("gs://results", "roles/storage.objectUser")],
        "worker": [("gs://code", "roles/storage.objectViewer"), ("gs://results", "roles/storage.objectUser")],
    }


def test_policies_commands_let_instances_only_read_the_staging() -> None:
    documents = printed(GcpSettings(project_id="p"), CheckContext(staging="gcs://staging/cloud-tasks"))
    command = "buckets add-iam-policy-binding gs://staging --member"
    assert f"{command} user:YOU@example.com --role roles/storage.objectUser" in documents["cloud-tasks-controller.yaml"]
    worker = "serviceAccount:cloud-tasks-worker@p.iam.gserviceaccount.com"
    assert f"{command} {worker} --role roles/storage.objectViewer" in documents["cloud-tasks-worker.yaml"]


def test_policies_commands_without_buckets_have_a_placeholder() -> None:
    for text in printed(GcpSettings(project_id="p")).values():
        assert re.search(
            r"binding gs://BUCKET .* --role roles/storage.objectUser   # for gs:// files only$", text, re.M
        )


@pytest.mark.parametrize("prefix", ["", "https://www.googleapis.com/compute/v1/"])
def test_policies_commands_grant_use_of_the_subnetwork_of_another_project(prefix: str) -> None:
    settings = GcpSettings(project_id="p", subnetwork=f"{prefix}projects/host/regions/r/subnetworks/s")
    text = printed(settings)["cloud-tasks-controller.yaml"]
    assert (
        "gcloud projects add-iam-policy-binding host --member user:YOU@example.com --role roles/compute.networkUser"
        in text
    )


def test_guide_lists_every_permission() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    shown = set(re.findall(r"`((?:compute|pubsub|monitoring|serviceusage)\.[a-zA-Z]+\.[a-zA-Z]+)`", text))
    for document in printed(GcpSettings(project_id="p")).values():
        assert set(yaml.safe_load(document)["includedPermissions"]) <= shown
