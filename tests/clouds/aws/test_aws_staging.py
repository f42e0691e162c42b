"""Downloads of instances from S3, by curl from a stand-in that verifies signatures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import fsspec
import pytest
from s3_store import S3Store, s3_store

from cloud_tasks.plugin import CheckContext, Finding, StagingContext
from cloud_tasks.plugin.kit import run_probes
from cloud_tasks.registry import Registry
from cloud_tasks.testing import StagingContract, StagingSubject
from cloud_tasks.testing.contracts.staging import fetch
from cloud_tasks_aws.doctor_staging import staging_probe

BACKEND = Registry(only=["aws"]).compute("aws")


@pytest.fixture
def store() -> Iterator[S3Store]:
    with s3_store() as store:
        yield store


def subject_of(store: S3Store, key: str = "AKIDEXAMPLE") -> StagingSubject:
    return StagingSubject(
        backend=BACKEND,
        url="s3://bucket/staging",
        put=store.put,
        settings=store.settings(key),
        region="us-east-1",
        advance=store.advance,
        signed_with=("access_key", "session_token"),
    )


class TestS3(StagingContract):
    @pytest.fixture
    def subject(self, store: S3Store) -> StagingSubject:
        return subject_of(store)


class TestS3WithTemporaryCredentials(StagingContract):
    @pytest.fixture
    def subject(self, store: S3Store) -> StagingSubject:
        return subject_of(store, "ASIATEMPORARY")


def test_download_with_another_key_is_reported(store: S3Store, tmp_path: Path) -> None:
    subject = subject_of(store)
    wrong = attrs.evolve(subject, settings=attrs.evolve(subject.settings, secret_key="wrong"))
    said = fetch(wrong.download("code.gz"), tmp_path / "file")
    assert said.startswith(
        f"cannot download {store.server.url}/bucket/staging/code.gz: HTTP 403 SignatureDoesNotMatch: "
    )


def test_download_of_a_missing_object_and_by_a_signer_without_permission_is_reported(
    store: S3Store, tmp_path: Path
) -> None:
    subject = subject_of(store)
    said = fetch(subject.download("code.gz"), tmp_path / "file")
    assert said.endswith(": HTTP 404 NoSuchKey: The specified key does not exist.")
    store.keys["AKIDEXAMPLE"].may_read = False
    assert fetch(subject.download("code.gz"), tmp_path / "file").endswith(": HTTP 403 AccessDenied: Access Denied")


def test_download_that_has_expired_is_reported(store: S3Store, tmp_path: Path) -> None:
    download = subject_of(store).download("code.gz", valid_for=timedelta(minutes=1))
    store.advance(timedelta(minutes=2))
    assert fetch(download, tmp_path / "file").endswith(": HTTP 403 AccessDenied: Request has expired")


def test_download_is_valid_for_seven_days_at_most(store: S3Store, tmp_path: Path) -> None:
    subject = subject_of(store)
    store.put("s3://bucket/staging/code.gz", b"code")
    download = subject.download("code.gz", valid_for=timedelta(days=30))
    assert fetch(download, tmp_path / "file") == ""
    assert download.expires_at is not None
    assert timedelta(days=6.9) < download.expires_at - datetime.now(UTC) <= timedelta(days=7)


def finding(store: S3Store, staging: str = "s3://bucket/staging") -> Finding:
    """Return the doctor's finding about the staging."""
    context = CheckContext(region="us-east-1", staging=staging)
    (found,) = run_probes([staging_probe(store.settings(), context)])
    return found


def test_check_says_that_the_staging_is_writable_and_what_instances_need(store: S3Store) -> None:
    found = finding(store)
    assert found.ok
    assert found.message == "s3://bucket in eu-north-1 is writable; instances need no permission: addresses are signed"
    assert store.objects == {}


def test_check_finds_a_missing_permission_bucket_and_a_wrong_url(store: S3Store) -> None:
    found = finding(store, "s3://other/staging")
    assert (found.ok, found.prevents_run) == (False, True)
    assert "NoSuchBucket" in found.message
    assert found.remedy == "run: aws s3api create-bucket --bucket other"
    assert finding(store, "gs://bucket/staging").prevents_run
    store.keys["AKIDEXAMPLE"].may_write = False
    found = finding(store)
    assert (found.ok, found.prevents_run) == (False, True)
    assert "AccessDenied" in found.message
    assert "--policy" in found.remedy


def test_uploads_signatures_and_checks_need_what_the_policy_allows(store: S3Store, tmp_path: Path) -> None:
    subject, options = subject_of(store), BACKEND.staging_options
    assert options is not None
    assert BACKEND.policies is not None
    (tmp_path / "sent").write_bytes(b"code")
    context = StagingContext(url=subject.url, region="us-east-1")
    system, prefix = fsspec.core.url_to_fs(subject.url, **options(subject.settings, context))
    with pytest.raises(FileNotFoundError):
        system.info(f"{prefix}/code.gz")
    system.put_file(str(tmp_path / "sent"), f"{prefix}/code.gz")
    assert fetch(subject.download("code.gz"), tmp_path / "file") == ""
    system.rm_file(f"{prefix}/code.gz")
    assert finding(store).ok
    policy = BACKEND.policies(subject.settings, CheckContext(region="us-east-1", staging=subject.url))["controller"]
    statements = [each for each in json.loads(policy)["Statement"] if each["Sid"].endswith("Staging")]
    allowed = {action for each in statements for action in each["Action"]}
    # The rest of a large upload that failed is removed.
    assert store.used == allowed - {"s3:AbortMultipartUpload"}
