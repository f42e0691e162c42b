"""Downloads of instances from Cloud Storage, by curl from a stand-in that checks tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import fsspec
import pytest
from cloud_storage import WORKER, CloudStorage, cloud_storage
from gce_fake import GceFake
from storage_emulator import permissions

from cloud_tasks.plugin import CheckContext, Finding, StagingContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import StagingContract, StagingSubject
from cloud_tasks.testing.contracts.staging import fetch

PERMISSIONS = ("storage.objects.create", "storage.objects.get", "storage.objects.list")
BACKEND = Registry(only=["gcp"]).compute("gcp")


@pytest.fixture(scope="module")
def shared() -> Iterator[CloudStorage]:
    with cloud_storage() as store:
        yield store


@pytest.fixture
def store(shared: CloudStorage) -> CloudStorage:
    shared.sign_in(WORKER)
    shared.granted = frozenset(PERMISSIONS)
    return shared


def subject_of(store: CloudStorage) -> StagingSubject:
    return StagingSubject(backend=BACKEND, url="gs://bucket/staging", put=store.put, settings=store.settings)


class TestCloudStorage(StagingContract):
    @pytest.fixture
    def subject(self, store: CloudStorage) -> StagingSubject:
        return subject_of(store)


def test_download_names_the_account_that_may_not_read(store: CloudStorage, tmp_path: Path) -> None:
    store.sign_in("other@fake-project.iam.gserviceaccount.com")
    said = fetch(subject_of(store).download("code.gz"), tmp_path / "file")
    assert said.startswith(f"cannot download {store.server.url}/bucket/staging/code.gz: HTTP 403 AccessDenied: ")
    assert "other@fake-project.iam.gserviceaccount.com does not have storage.objects.get access" in said


def test_download_with_a_refused_token_is_reported(store: CloudStorage, tmp_path: Path) -> None:
    store.revoke_tokens()
    said = fetch(subject_of(store).download("code.gz"), tmp_path / "file")
    assert said.endswith(": HTTP 401 AuthenticationRequired: Authentication required.")


def test_download_of_a_missing_object_and_bucket_is_reported(store: CloudStorage, tmp_path: Path) -> None:
    subject = subject_of(store)
    said = fetch(subject.download("code.gz"), tmp_path / "file")
    assert said.endswith(
        ": HTTP 404 NoSuchKey: The specified key does not exist. No such object: bucket/staging/code.gz"
    )
    said = fetch(attrs.evolve(subject, url="gs://other/staging").download("code.gz"), tmp_path / "file")
    assert said.endswith(": HTTP 404 NoSuchBucket: The specified bucket does not exist.")


@pytest.fixture
def gce(tmp_path: Path) -> Iterator[GceFake]:
    with GceFake(tmp_path / "gce") as fake:
        yield fake


def finding(gce: GceFake, store: CloudStorage, staging: str = "gs://bucket/staging", **changes: Any) -> Finding:
    """Return the doctor's finding about the staging."""
    settings = attrs.evolve(store.settings, compute_endpoint=gce.url, **changes)
    assert BACKEND.check is not None
    context = CheckContext(region="us-central1", staging=staging)
    (found,) = (each for each in BACKEND.check(settings, context) if each.subject == "staging")
    return found


def test_check_says_that_the_staging_is_writable_and_what_instances_need(gce: GceFake, store: CloudStorage) -> None:
    found = finding(gce, store, service_account=WORKER)
    assert found.ok
    assert found.message == f"gs://bucket is writable; {WORKER} needs roles/storage.objectViewer on it"


@pytest.mark.parametrize("withheld", PERMISSIONS)
def test_check_names_the_permission_that_uploads_lack(gce: GceFake, store: CloudStorage, withheld: str) -> None:
    store.granted -= {withheld}
    found = finding(gce, store)
    assert (found.ok, found.prevents_run) == (False, True)
    assert found.message == f"these credentials cannot upload to gs://bucket: {withheld} missing"
    assert "add-iam-policy-binding gs://bucket" in found.remedy


def test_check_finds_a_missing_bucket_a_wrong_url_and_missing_scopes(gce: GceFake, store: CloudStorage) -> None:
    found = finding(gce, store, "gs://other/staging")
    assert (found.ok, found.prevents_run, found.message) == (False, True, "bucket other not found")
    assert found.remedy == "run: gcloud storage buckets create gs://other --project fake-project"
    found = finding(gce, store, "s3://bucket/staging")
    assert (found.ok, found.prevents_run) == (False, True)
    found = finding(gce, store, scopes=("https://www.googleapis.com/auth/pubsub",))
    assert (found.ok, found.prevents_run, found.message) == (
        False,
        False,
        "gcp.scopes lets no instance read Cloud Storage",
    )


def test_check_of_a_configuration_without_staging_looks_for_none(gce: GceFake, store: CloudStorage) -> None:
    assert BACKEND.check is not None
    settings = attrs.evolve(store.settings, compute_endpoint=gce.url)
    findings = BACKEND.check(settings, CheckContext(region="us-central1"))
    assert "staging" not in [each.subject for each in findings]


def test_uploads_need_no_more_than_the_roles_of_the_policy(store: CloudStorage, tmp_path: Path) -> None:
    subject, options = subject_of(store), BACKEND.staging_options
    assert options is not None
    (tmp_path / "sent").write_bytes(b"code")
    store.server.calls.clear()
    system, prefix = fsspec.core.url_to_fs(subject.url, **options(subject.settings, StagingContext(url=subject.url)))
    with pytest.raises(FileNotFoundError):
        system.info(f"{prefix}/least.gz")
    system.put_file(str(tmp_path / "sent"), f"{prefix}/least.gz")
    used = {f"storage.{name}" for name in permissions(store.server).values()}
    # Access to the bucket itself is denied by the fake, and not needed.
    assert used - {"storage.buckets.get"} <= set(PERMISSIONS)
    assert {"storage.objects.create", "storage.objects.get"} <= used
