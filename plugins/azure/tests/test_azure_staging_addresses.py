"""Addresses and tokens of downloads from Blob Storage: accounts, clouds, identities, names."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.plugin import Download, DownloadContext, StagingContext
from cloud_tasks_azure.settings import AzureSettings
from cloud_tasks_azure.staging import download, staging_options

IDENTITY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/w"


def of(url: str, **changes: Any) -> Download:
    settings = AzureSettings(**{"storage_account": "account", "managed_identity": IDENTITY} | changes)
    return download(settings, DownloadContext(url=url, valid_for=timedelta(hours=1)))


def test_download_uses_the_token_of_the_managed_identity() -> None:
    found = of("az://staging/jobs/code-1f.tar.gz")
    assert found.url == "https://account.blob.core.windows.net/staging/jobs/code-1f.tar.gz"
    assert found.headers["x-ms-version"] >= "2017-11-09"
    assert found.token_headers == {"Metadata": "true"}
    assert found.token_url.startswith("http://169.254.169.254/metadata/identity/oauth2/token?")
    query = {"api-version": ["2018-02-01"], "resource": ["https://storage.azure.com/"]}
    assert parse_qs(urlsplit(found.token_url).query) == {**query, "msi_res_id": [IDENTITY]}
    assert parse_qs(urlsplit(of("az://staging/x", managed_identity="system").token_url).query) == query


@pytest.mark.parametrize(
    ("url", "settings", "host"),
    [
        ("az://c/x", {}, "account.blob.core.windows.net"),
        ("az://c@other.blob.core.windows.net/x", {}, "other.blob.core.windows.net"),
        ("abfs://c@other.dfs.core.windows.net/x", {"blob_endpoint": "https://x"}, "other.blob.core.windows.net"),
        ("abfss://c@other.dfs.core.usgovcloudapi.net/x", {}, "other.blob.core.usgovcloudapi.net"),
        ("az://c/x", {"storage_account": "https://a.queue.core.chinacloudapi.cn"}, "a.blob.core.chinacloudapi.cn"),
        ("az://c/x", {"blob_endpoint": "https://private.example"}, "private.example"),
        (
            "az://c/x",
            {"storage_account": None, "connection_string": "AccountName=own;AccountKey=a2V5"},
            "own.blob.core.windows.net",
        ),
        (
            "az://c/x",
            {"storage_account": None, "connection_string": "AccountName=own;EndpointSuffix=core.usgovcloudapi.net"},
            "own.blob.core.usgovcloudapi.net",
        ),
    ],
)
def test_download_is_from_the_account_of_the_url_or_of_the_settings(
    url: str, settings: dict[str, Any], host: str
) -> None:
    assert of(url, **settings).url == f"https://{host}/c/x"


def test_download_takes_the_account_that_uploads_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "fromadlfs")
    assert of("az://c/x", storage_account=None).url == "https://fromadlfs.blob.core.windows.net/c/x"
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    with pytest.raises(ProviderError, match="no storage account is configured"):
        of("az://c/x", storage_account=None)


def test_download_without_a_managed_identity_is_refused() -> None:
    with pytest.raises(InputError, match="instances without a managed identity cannot download"):
        of("az://c/x", managed_identity=None)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_download_encodes_the_whole_name(name: str) -> None:
    url = of(f"az://c/{name}").url
    assert unquote(url.removeprefix("https://account.blob.core.windows.net/c/")) == name
    assert not set(url) & {"?", "#", " "}


def test_download_sends_no_token_of_azure_unencrypted() -> None:
    assert of("az://c/x", blob_endpoint="http://127.0.0.1:9/a").token_url == ""


def test_staging_options_name_the_account_and_the_application() -> None:
    place = StagingContext(url="az://c/jobs")
    settings = AzureSettings(storage_account="https://a.queue.core.chinacloudapi.cn")
    expected = {"account_name": "a", "account_host": "a.blob.core.chinacloudapi.cn", "anon": False}
    assert staging_options(settings, place) == expected
    application: dict[str, Any] = {"tenant_id": "t", "client_id": "i", "client_secret": "s"}
    found = staging_options(AzureSettings(storage_account="account", **application), place)
    assert {name: found[name] for name in application} == application
    text = "AccountName=own;AccountKey=a2V5"
    assert staging_options(AzureSettings(connection_string=text), place) == {"connection_string": text}
    # The key of another account does not open that of the URL.
    other = StagingContext(url="az://c@other.blob.core.windows.net/jobs")
    assert staging_options(AzureSettings(connection_string=text), other)["account_name"] == "other"
