"""Addresses that the controller signs for instances: endpoints of partitions and regions, and their end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_tasks.errors import CredentialsError
from cloud_tasks.plugin import Download, DownloadContext, StagingContext
from cloud_tasks_aws import staging
from cloud_tasks_aws.session import client
from cloud_tasks_aws.settings import AwsSettings

SETTINGS = AwsSettings(access_key="AKIDEXAMPLE", secret_key="secret")
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def without_requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A bucket is in the region of the job, and no client of another test is used."""
    staging._client.cache_clear()
    monkeypatch.setattr(staging, "bucket_client", lambda create, bucket: create(None))
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_CREDENTIAL_EXPIRATION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield
    staging._client.cache_clear()


def of(url: str, region: str = "eu-north-1", valid_for: timedelta = HOUR, given: AwsSettings = SETTINGS) -> Download:
    return staging.download(given, DownloadContext(url=url, region=region, valid_for=valid_for))


@pytest.mark.parametrize(
    ("bucket", "region", "address"),
    [
        ("bucket", "eu-north-1", "https://bucket.s3.eu-north-1.amazonaws.com/x"),
        ("bucket", "us-east-1", "https://bucket.s3.us-east-1.amazonaws.com/x"),
        ("bucket", "cn-north-1", "https://bucket.s3.cn-north-1.amazonaws.com.cn/x"),
        ("bucket", "us-gov-west-1", "https://bucket.s3.us-gov-west-1.amazonaws.com/x"),
        # The certificate of S3 is for one label before the endpoint.
        ("dotted.bucket", "eu-north-1", "https://s3.eu-north-1.amazonaws.com/dotted.bucket/x"),
        ("dotted.bucket", "us-east-1", "https://s3.us-east-1.amazonaws.com/dotted.bucket/x"),
    ],
)
def test_download_names_the_regional_endpoint(bucket: str, region: str, address: str) -> None:
    found = of(f"s3://{bucket}/x", region)
    assert found.url.partition("?")[0] == address
    query = {name: values[0] for name, values in parse_qs(urlsplit(found.url).query).items()}
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert query["X-Amz-Credential"].split("/")[2] == region
    assert (query["X-Amz-Expires"], query["X-Amz-SignedHeaders"]) == ("3600", "host")


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "https://s3.minio.example", "https://bucket.vpce-1.s3.x"])
def test_client_of_another_endpoint_has_no_host_name_for_each_bucket(endpoint: str) -> None:
    settings = AwsSettings(access_key="AKIDEXAMPLE", secret_key="secret", s3_endpoint=endpoint)
    assert of("s3://bucket/x", given=settings).url.startswith(f"{endpoint}/bucket/x?")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50))
def test_download_encodes_the_whole_name(name: str) -> None:
    path = urlsplit(of(f"s3://bucket/{name}").url).path
    assert unquote(path[1:]) == name


def test_download_ends_with_its_signature_or_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    end = of("s3://bucket/x").expires_at
    assert end is not None
    assert abs(end - now - HOUR) < timedelta(minutes=1)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ASIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", (now + timedelta(minutes=20)).isoformat())
    end = of("s3://bucket/x", given=AwsSettings()).expires_at
    assert end == now + timedelta(minutes=20)


def test_download_without_credentials_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(CredentialsError):
        of("s3://bucket/x", given=AwsSettings())
    with pytest.raises(CredentialsError):
        staging.staging_options(AwsSettings(), StagingContext(url="s3://bucket/x", region="eu-north-1"))


def test_client_of_s3_signs_for_the_regional_endpoint() -> None:
    s3 = client(SETTINGS, "s3", "eu-north-1")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "script"})
    assert url.startswith("https://bucket.s3.eu-north-1.amazonaws.com/script?")
    s3.close()


def test_download_is_signed_for_the_region_of_a_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    context = DownloadContext(url="s3://bucket/x", zone="eu-north-1a", valid_for=HOUR)
    assert staging.download(SETTINGS, context).url.startswith("https://bucket.s3.eu-north-1.amazonaws.com/x?")
    assert staging.staging_options(SETTINGS, context)["client_kwargs"] == {"region_name": "eu-north-1"}
