"""Downloads of instances from Blob Storage, by curl from a stand-in that checks tokens."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from azurite import Azurite
from blob_storage import IDENTITY, BlobStorage, blob_storage

from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.plugin import CheckContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import StagingContract, StagingSubject
from cloud_tasks.testing.contracts.staging import fetch
from cloud_tasks_azure.doctor_staging import check_staging
from cloud_tasks_azure.settings import AzureSettings

BACKEND = Registry(only=["azure"]).compute("azure")
CONTAINER = f"staging-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def shared(azurite: Azurite) -> Iterator[BlobStorage]:
    with blob_storage(azurite) as store:
        store.create(CONTAINER)
        yield store


@pytest.fixture
def store(shared: BlobStorage) -> BlobStorage:
    shared.may_read = True
    shared.accepted = {shared.metadata.token}
    shared.metadata.identities = {IDENTITY}
    return shared


def subject_of(store: BlobStorage) -> StagingSubject:
    return StagingSubject(backend=BACKEND, url=f"az://{CONTAINER}/jobs", put=store.put, settings=store.settings)


class TestBlobStorage(StagingContract):
    @pytest.fixture
    def subject(self, store: BlobStorage) -> StagingSubject:
        return subject_of(store)


def test_download_without_the_role_is_reported(store: BlobStorage, tmp_path: Path) -> None:
    store.may_read = False
    said = fetch(subject_of(store).download("code.gz"), tmp_path / "file")
    assert said.startswith(f"cannot download {store.settings.blob_endpoint}/{CONTAINER}/jobs/code.gz: ")
    assert ": HTTP 403 AuthorizationPermissionMismatch: This request is not authorized to perform" in said


def test_download_with_a_refused_token_and_without_the_identity_is_reported(store: BlobStorage, tmp_path: Path) -> None:
    store.accepted = set()
    said = fetch(subject_of(store).download("code.gz"), tmp_path / "file")
    assert ": HTTP 401 InvalidAuthenticationInfo: Server failed to authenticate" in said
    store.metadata.identities = set()
    said = fetch(subject_of(store).download("code.gz"), tmp_path / "file")
    assert said.endswith(
        f": no token of {store.metadata.url}/metadata/identity/oauth2/token: HTTP 400 Identity not found"
    )


def test_download_of_a_missing_blob_and_container_is_reported(store: BlobStorage, tmp_path: Path) -> None:
    subject = subject_of(store)
    said = fetch(subject.download("code.gz"), tmp_path / "file")
    assert ": HTTP 404 BlobNotFound: The specified blob does not exist." in said
    said = fetch(attrs.evolve(subject, url="az://missing/jobs").download("code.gz"), tmp_path / "file")
    assert ": HTTP 404 ContainerNotFound: The specified container does not exist." in said


def test_check_says_that_the_staging_is_writable_and_what_instances_need(store: BlobStorage, azurite: Azurite) -> None:
    before = store.contents(CONTAINER)
    found = check_staging(store.settings, CheckContext(staging=f"az://{CONTAINER}/jobs/"))
    assert found == (
        f"{azurite.account}/{CONTAINER} is writable;"
        " the identity cloud-tasks-worker needs the role Storage Blob Data Reader for it"
    )
    assert store.contents(CONTAINER) == before, "the check uploaded something"
    store.put(f"az://{CONTAINER}/jobs/file", b"a file of the user")
    check_staging(store.settings, CheckContext(staging=f"az://{CONTAINER}/jobs"))
    assert store.contents(CONTAINER) == {**before, "jobs/file": b"a file of the user"}


def test_check_finds_a_missing_container_key_and_identity(store: BlobStorage) -> None:
    context = CheckContext(staging=f"az://{CONTAINER}/jobs")
    with pytest.raises(CloudTasksError, match="ContainerNotFound") as missing:
        check_staging(store.settings, CheckContext(staging="az://missing/jobs"))
    assert "az storage container create" in missing.value.hint
    with pytest.raises(InputError, match=r"set azure\.managed_identity"):
        check_staging(attrs.evolve(store.settings, managed_identity=None), context)
    text = str(store.settings.connection_string).replace("AccountKey=", "AccountKey=AAAA")
    with pytest.raises(CloudTasksError, match=f"uploading to standin/{CONTAINER}"):
        check_staging(attrs.evolve(store.settings, connection_string=text), context)
    with pytest.raises(InputError, match="not a file that instances can download"):
        check_staging(AzureSettings(), CheckContext(staging="s3://bucket/jobs"))
