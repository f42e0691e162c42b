"""Credentials, regions and endpoints of AWS clients."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest

from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.plugin import setting_info
from cloud_tasks_aws.session import client, endpoint_of, region_for, session
from cloud_tasks_aws.settings import AwsSettings

KEYS: dict[str, Any] = {"access_key": "AKIDOFSETTINGS", "secret_key": "secret-of-settings"}
FILE = """\
[default]
aws_access_key_id = AKIDOFFILE
aws_secret_access_key = secret-of-file

[other]
aws_access_key_id = AKIDOFOTHER
aws_secret_access_key = secret-of-other
aws_session_token = token-of-other
"""


@pytest.fixture(autouse=True)
def no_aws_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove this machine's own AWS configuration."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SSM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.write_text(FILE)
    path.chmod(0o600)
    return path


def credentials(settings: AwsSettings) -> tuple[str, str, str | None] | None:
    found = session(settings, "us-east-1").get_credentials()
    return None if found is None else (found.access_key, found.secret_key, found.token)


# Credentials


def test_session_uses_the_sdk_credential_chain_by_default(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    assert credentials(AwsSettings()) is None
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    assert credentials(AwsSettings()) == ("AKIDOFFILE", "secret-of-file", None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOFENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-env")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-env")
    assert credentials(AwsSettings()) == ("AKIDOFENV", "secret-of-env", "token-of-env")


def test_session_prefers_profile_to_environment_keys(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOFENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-env")
    assert credentials(AwsSettings(profile="other")) == ("AKIDOFOTHER", "secret-of-other", "token-of-other")


def test_explicit_keys_are_not_combined_with_environment_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-env")
    assert credentials(AwsSettings(**KEYS)) == ("AKIDOFSETTINGS", "secret-of-settings", None)
    assert credentials(AwsSettings(**KEYS, session_token="token")) == ("AKIDOFSETTINGS", "secret-of-settings", "token")


@pytest.mark.parametrize("part", ["access_key", "secret_key"])
def test_session_rejects_incomplete_key(part: str) -> None:
    missing = ({"access_key", "secret_key"} - {part}).pop()
    with pytest.raises(InputError, match=f"aws.{missing}: missing"):
        session(AwsSettings(**{part: KEYS[part]}))


def test_session_rejects_token_without_key() -> None:
    with pytest.raises(InputError, match="access_key and secret_key are missing"):
        session(AwsSettings(session_token="token"))


def test_session_reports_unknown_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        InputError, match='AWS profile "missing" not found; list profiles with: aws configure list-profiles'
    ):
        session(AwsSettings(profile="missing"))
    monkeypatch.setenv("AWS_PROFILE", "unknown")
    with pytest.raises(InputError, match='AWS profile "unknown" not found'):
        client(AwsSettings(), "sqs", "us-east-1")


def test_explicit_keys_take_precedence_over_profile() -> None:
    assert credentials(AwsSettings(**KEYS, profile="missing")) == ("AKIDOFSETTINGS", "secret-of-settings", None)


def test_client_reports_unknown_environment_profile_despite_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "unknown")
    with pytest.raises(InputError, match='AWS profile "unknown" not found'):
        client(AwsSettings(**KEYS), "sqs")


def test_client_reports_invalid_aws_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("no section")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(ProviderError, match="Unable to parse config file"):
        client(AwsSettings(), "sqs", "us-east-1")


# Credentials file


def test_credentials_file_takes_precedence_over_environment(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOFENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-env")
    assert credentials(AwsSettings(credentials_file=file)) == ("AKIDOFFILE", "secret-of-file", None)
    assert credentials(AwsSettings(credentials_file=file, profile="other")) == (
        "AKIDOFOTHER",
        "secret-of-other",
        "token-of-other",
    )


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644])
def test_credentials_file_with_open_permissions_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(InputError, match="chmod 600") as caught:
        session(AwsSettings(credentials_file=file))
    assert "secret-of" not in str(caught.value)


def test_task_source_reports_missing_s3_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        session(AwsSettings(credentials_file=tmp_path / "none"))
    with pytest.raises(InputError, match="not a regular file"):
        session(AwsSettings(credentials_file=tmp_path))


def test_credentials_file_without_profile_is_reported(file: Path) -> None:
    with pytest.raises(InputError, match=f'AWS profile "third" not found in {file}'):
        session(AwsSettings(credentials_file=file, profile="third"))


# Secrets


def test_keys_never_appear_in_output(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.INFO)
    settings = AwsSettings(**KEYS, session_token="token-of-settings")
    created = client(settings, "sqs", "us-east-1")
    output = "".join((repr(settings), str(settings), repr(created), caplog.text, *capfd.readouterr()))
    assert "AKIDOF" not in output
    assert "of-settings" not in output
    fields = {field.name: setting_info(field) for field in attrs.fields(AwsSettings)}
    assert {name for name, info in fields.items() if info.secret} == {"access_key", "secret_key", "session_token"}


def test_secret_settings_are_not_sent_to_workers() -> None:
    infos = [setting_info(field) for field in attrs.fields(AwsSettings)]
    assert not any(info.secret and info.worker for info in infos)


# Endpoints and regions


@pytest.mark.parametrize(
    ("given", "service", "endpoint"),
    [
        ({}, "sqs", None),
        ({"sqs_endpoint": "http://127.0.0.1:1"}, "sqs", "http://127.0.0.1:1"),
        ({"sqs_endpoint": "http://127.0.0.1:1"}, "ec2", None),
        ({"endpoint_url": "http://127.0.0.1:2"}, "sts", "http://127.0.0.1:2"),
        ({"endpoint_url": "http://127.0.0.1:2", "ec2_endpoint": "http://127.0.0.1:1"}, "ec2", "http://127.0.0.1:1"),
    ],
)
def test_endpoint_of_returns_configured_endpoint(given: dict[str, Any], service: str, endpoint: str | None) -> None:
    settings = AwsSettings(**KEYS, **given)
    assert endpoint_of(settings, service) == endpoint
    created = client(settings, service, "us-east-1")
    assert created.meta.endpoint_url == (endpoint or created.meta.endpoint_url)
    assert ("127.0.0.1" in created.meta.endpoint_url) == (endpoint is not None)


def test_sdk_service_variable_takes_precedence_over_endpoint_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:3")
    created = client(AwsSettings(**KEYS, endpoint_url="http://127.0.0.1:2"), "ssm", "us-east-1")
    assert created.meta.endpoint_url == "http://127.0.0.1:3"


def test_region_for_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = AwsSettings(**KEYS)
    assert region_for(settings, "eu-west-1", "us-east-1a") == "eu-west-1"
    assert region_for(settings, None, "us-west-2-lax-1a") == "us-west-2"
    with pytest.raises(InputError, match="no AWS region is configured"):
        region_for(settings)
    with pytest.raises(InputError, match="no AWS region is configured"):
        client(settings, "sqs")
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    assert region_for(settings) == "ap-south-1"
    assert client(settings, "sqs").meta.region_name == "ap-south-1"


@pytest.mark.parametrize("name", ["us-east-1", "ap-southeast-4", "us-gov-west-1", "cn-north-1", "eusc-de-east-1"])
def test_region_for_prefers_job_region_of_aws(name: str) -> None:
    assert client(AwsSettings(**KEYS, region="eu-west-1"), "sqs", name).meta.region_name == name


@pytest.mark.parametrize("name", ["us-central1", "eastus", "local"])
def test_region_for_ignores_region_of_another_provider(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    assert client(AwsSettings(**KEYS, region="eu-west-1"), "sqs", name).meta.region_name == "eu-west-1"
    with pytest.raises(InputError, match=f'"{name}" is not an AWS region; set aws.region'):
        client(AwsSettings(**KEYS), "sqs", name)


def test_client_creation_is_thread_safe() -> None:
    def create(number: int) -> Any:
        return client(AwsSettings(**KEYS), "sqs", "us-east-1").meta.region_name

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(create, range(16))) == ["us-east-1"] * 16


def test_client_uses_adaptive_retries() -> None:
    config = client(AwsSettings(**KEYS), "sqs", "us-east-1", connections=33, read_timeout=35.0).meta.config
    assert config.retries["mode"] == "adaptive"
    assert config.max_pool_connections == 33
    assert config.read_timeout == 35.0
