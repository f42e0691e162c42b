"""The bucket of `cloud-tasks setup gcp`: its name, its owner, and what is corrected."""

from __future__ import annotations

import re
from typing import Any

import pytest
from gcp_setup import BUCKET, ROBOT, item, make, setup_of, undo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from project_admin import ProjectAdmin

from cloud_tasks.errors import InputError
from cloud_tasks_gcp.permissions import worker_address
from cloud_tasks_gcp.settings import GcpSettings
from cloud_tasks_gcp.setup.bucket import bucket_name


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


def test_bucket_keeps_the_rule_that_another_person_adds_meanwhile(project: ProjectAdmin) -> None:
    bucket = item(project, "bucket")
    bucket.make()
    rule = {"action": {"type": "SetStorageClass", "storageClass": "NEARLINE"}, "condition": {"age": 3}}
    project.buckets.change(BUCKET, lifecycle={"rule": []})
    project.meanwhile = [lambda: project.buckets.change(BUCKET, lifecycle={"rule": [rule]})]
    bucket.make()
    assert bucket.look() == ""
    assert rule in project.buckets.resources[BUCKET]["lifecycle"]["rule"]


@pytest.mark.parametrize(
    ("count", "reason"), [(1, "has 1 object"), (3, "has 3 objects"), (1001, "has more than 1,000 objects")]
)
def test_bucket_with_objects_stays(project: ProjectAdmin, count: int, reason: str) -> None:
    setup = setup_of(project)
    make(setup)
    project.buckets.objects[BUCKET] = [f"staging/#{number}" for number in range(count)]
    assert undo(setup)[f"bucket {BUCKET}"] == reason


def test_bucket_that_gets_an_object_meanwhile_stays(project: ProjectAdmin) -> None:
    bucket = item(project, "bucket")
    bucket.make()
    project.meanwhile = [lambda: project.buckets.objects[BUCKET].append("staging/code")]
    assert bucket.remove() == "has objects"


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
