"""As whom AWS is called, and where."""

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
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which nothing of AWS is configured."""
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


def who(settings: AwsSettings) -> tuple[str, str, str | None] | None:
    found = session(settings, "us-east-1").get_credentials()
    return None if found is None else (found.access_key, found.secret_key, found.token)


# As whom


def test_without_settings_the_sdk_looks_where_it_always_does(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    assert who(AwsSettings()) is None
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    assert who(AwsSettings()) == ("AKIDOFFILE", "secret-of-file", None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOFENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-env")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-env")
    assert who(AwsSettings()) == ("AKIDOFENV", "secret-of-env", "token-of-env")


def test_a_profile_is_preferred_to_keys_in_the_environment(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOFENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-env")
    assert who(AwsSettings(profile="other")) == ("AKIDOFOTHER", "secret-of-other", "token-of-other")


def test_explicit_keys_are_not_mixed_with_a_token_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-env")
    assert who(AwsSettings(**KEYS)) == ("AKIDOFSETTINGS", "secret-of-settings", None)
    assert who(AwsSettings(**KEYS, session_token="token")) == ("AKIDOFSETTINGS", "secret-of-settings", "token")


@pytest.mark.parametrize("part", ["access_key", "secret_key"])
def test_half_a_key_is_refused(part: str) -> None:
    missing = ({"access_key", "secret_key"} - {part}).pop()
    with pytest.raises(InputError, match=f"aws.{missing} is missing"):
        session(AwsSettings(**{part: KEYS[part]}))


def test_a_token_without_its_key_is_refused() -> None:
    with pytest.raises(InputError, match="without access_key"):
        session(AwsSettings(session_token="token"))


def test_a_profile_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match='no AWS profile "nobody"; see `aws configure list-profiles`'):
        session(AwsSettings(profile="nobody"))
    monkeypatch.setenv("AWS_PROFILE", "somebody")
    with pytest.raises(InputError, match='no AWS profile "somebody"'):
        client(AwsSettings(), "sqs", "us-east-1")


def test_explicit_keys_go_before_a_profile() -> None:
    assert who(AwsSettings(**KEYS, profile="nobody")) == ("AKIDOFSETTINGS", "secret-of-settings", None)


def test_a_profile_of_the_environment_that_is_not_there_is_told_even_beside_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "somebody")
    with pytest.raises(InputError, match='no AWS profile "somebody"'):
        client(AwsSettings(**KEYS), "sqs")


def test_a_broken_configuration_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("no section")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(ProviderError, match="Unable to parse config file"):
        client(AwsSettings(), "sqs", "us-east-1")


# The file


def test_a_credentials_file_is_preferred_to_the_environment(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOFENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-env")
    assert who(AwsSettings(credentials_file=file)) == ("AKIDOFFILE", "secret-of-file", None)
    assert who(AwsSettings(credentials_file=file, profile="other")) == (
        "AKIDOFOTHER",
        "secret-of-other",
        "token-of-other",
    )


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644])
def test_a_file_that_others_may_read_or_write_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(InputError, match="chmod 600") as caught:
        session(AwsSettings(credentials_file=file))
    assert "secret-of" not in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        session(AwsSettings(credentials_file=tmp_path / "none"))
    with pytest.raises(InputError, match="not a file"):
        session(AwsSettings(credentials_file=tmp_path))


def test_a_file_without_the_profile_is_told(file: Path) -> None:
    with pytest.raises(InputError, match=f'no AWS profile "third" in {file}'):
        session(AwsSettings(credentials_file=file, profile="third"))


# Secrets


def test_keys_are_secret_and_never_shown(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.INFO)
    settings = AwsSettings(**KEYS, session_token="token-of-settings")
    made = client(settings, "sqs", "us-east-1")
    said = "".join((repr(settings), str(settings), repr(made), caplog.text, *capfd.readouterr()))
    assert "AKIDOF" not in said
    assert "of-settings" not in said
    fields = {field.name: setting_info(field) for field in attrs.fields(AwsSettings)}
    assert {name for name, info in fields.items() if info.secret} == {"access_key", "secret_key", "session_token"}


def test_no_secret_reaches_a_worker() -> None:
    infos = [setting_info(field) for field in attrs.fields(AwsSettings)]
    assert not any(info.secret and info.worker for info in infos)


# Where


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
def test_a_service_is_where_the_settings_say(given: dict[str, Any], service: str, endpoint: str | None) -> None:
    settings = AwsSettings(**KEYS, **given)
    assert endpoint_of(settings, service) == endpoint
    made = client(settings, service, "us-east-1")
    assert made.meta.endpoint_url == (endpoint or made.meta.endpoint_url)
    assert ("127.0.0.1" in made.meta.endpoint_url) == (endpoint is not None)


def test_the_sdks_own_variable_for_one_service_beats_a_setting_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:3")
    made = client(AwsSettings(**KEYS, endpoint_url="http://127.0.0.1:2"), "ssm", "us-east-1")
    assert made.meta.endpoint_url == "http://127.0.0.1:3"


def test_the_region_is_the_one_given_then_that_of_the_zone_then_the_sdks(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = AwsSettings(**KEYS)
    assert region_for(settings, "eu-west-1", "us-east-1a") == "eu-west-1"
    assert region_for(settings, None, "us-west-2-lax-1a") == "us-west-2"
    with pytest.raises(ProviderError, match="no AWS region"):
        region_for(settings)
    with pytest.raises(ProviderError, match="no AWS region"):
        client(settings, "sqs")
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    assert region_for(settings) == "ap-south-1"
    assert client(settings, "sqs").meta.region_name == "ap-south-1"


@pytest.mark.parametrize("name", ["us-east-1", "ap-southeast-4", "us-gov-west-1", "cn-north-1", "eusc-de-east-1"])
def test_the_jobs_region_goes_before_the_setting_where_it_is_one_of_aws(name: str) -> None:
    assert client(AwsSettings(**KEYS, region="eu-west-1"), "sqs", name).meta.region_name == name


@pytest.mark.parametrize("name", ["us-central1", "eastus", "local"])
def test_a_region_of_another_provider_is_not_taken_for_one_of_aws(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    assert client(AwsSettings(**KEYS, region="eu-west-1"), "sqs", name).meta.region_name == "eu-west-1"
    with pytest.raises(ProviderError, match=f'"{name}" is no region of AWS; set aws.region'):
        client(AwsSettings(**KEYS), "sqs", name)


def test_clients_can_be_made_from_many_threads() -> None:
    def make(number: int) -> Any:
        return client(AwsSettings(**KEYS), "sqs", "us-east-1").meta.region_name

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(make, range(16))) == ["us-east-1"] * 16


def test_calls_are_repeated_and_held_back_when_throttled() -> None:
    config = client(AwsSettings(**KEYS), "sqs", "us-east-1", connections=33, read_timeout=35.0).meta.config
    assert config.retries["mode"] == "adaptive"
    assert config.max_pool_connections == 33
    assert config.read_timeout == 35.0
