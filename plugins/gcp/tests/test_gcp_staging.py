"""Downloads of instances from Google's own Cloud Storage."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import unquote

from google.auth.credentials import AnonymousCredentials
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.plugin import Download, DownloadContext, StagingContext
from cloud_tasks_gcp.settings import GcpSettings
from cloud_tasks_gcp.staging import download, staging_options

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def of(name: str, **settings: Any) -> Download:
    return download(GcpSettings(**settings), DownloadContext(url=f"gs://b/{name}", valid_for=timedelta(hours=1)))


def test_download_uses_the_token_of_the_metadata_server() -> None:
    assert of("staging/code-1f.tar.gz") == Download(
        url="https://storage.googleapis.com/b/staging/code-1f.tar.gz",
        token_url="http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token",
        token_headers={"Metadata-Flavor": "Google"},
    )


@given(NAMES)
def test_download_encodes_the_whole_name(name: str) -> None:
    url = of(name).url
    assert unquote(url.removeprefix("https://storage.googleapis.com/b/")) == name
    assert not set(url) & {"?", "#", " "}


def test_download_sends_no_token_of_google_unencrypted() -> None:
    for endpoint in ("http://127.0.0.1:9", "127.0.0.1:9", "http://127.0.0.1:9/"):
        assert of("x", storage_endpoint=endpoint) == Download(url="http://127.0.0.1:9/b/x")
    assert of("x", storage_endpoint="https://storage-psc.p.googleapis.com").token_url != ""


def test_staging_options_have_endpoint_project_and_credentials_of_the_settings() -> None:
    settings = GcpSettings(storage_endpoint="127.0.0.1:9", project_id="p")
    options = staging_options(settings, StagingContext(url="gs://b/staging"))
    assert isinstance(options["token"], AnonymousCredentials)
    assert (options["endpoint_url"], options["project"]) == ("http://127.0.0.1:9", "p")
