"""Expired credentials: the real SDK's errors are recognized, and a new login is used without a restart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    LoginRefreshRequired,
    NoCredentialsError,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from ec2_launches import offer
from fake_server import Answer, FakeServer, Request

from cloud_tasks.errors import CredentialsError, LaunchRefusedError, ProviderError
from cloud_tasks_aws import renewed_credentials
from cloud_tasks_aws.compute.compute_errors import launch_error
from cloud_tasks_aws.credentials_end import credentials_end
from cloud_tasks_aws.errors import provider_error, translate_errors
from cloud_tasks_aws.session import client
from cloud_tasks_aws.settings import AwsSettings

CODES = (
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "RequestExpired",
    "UnrecognizedClientException",
)


@pytest.fixture(autouse=True)
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The only credentials of this machine."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    path = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    log_in(path, "AKIDOLD")
    monkeypatch.setattr(renewed_credentials, "_PAUSE", 0.0)
    return path


def log_in(file: Path, key: str) -> None:
    file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s\naws_session_token = t-{key}\n")


class Service:
    """SQS or EC2 that accepts one key only, and counts its calls."""

    def __init__(self, server: FakeServer) -> None:
        self.code = "ExpiredToken"
        self.calls: list[str] = []
        server.route("POST", "/", self._answer)
        self.settings = AwsSettings(endpoint_url=server.url)

    def _answer(self, request: Request) -> Answer:
        key = request.headers["authorization"].partition("Credential=")[2].partition("/")[0]
        self.calls.append(key)
        is_json = "x-amz-target" in request.headers
        if key == "AKIDNEW":
            return Answer(
                body={"QueueUrls": []}
                if is_json
                else "<DescribeRegionsResponse><regionInfo/></DescribeRegionsResponse>"
            )
        if is_json:
            return Answer(
                status=400, body={"__type": f"com.amazonaws.sqs#{self.code}", "message": "The token is expired"}
            )
        error = f"<Errors><Error><Code>{self.code}</Code><Message>Request has expired.</Message></Error></Errors>"
        return Answer(status=400, body=f"<Response>{error}<RequestID>1</RequestID></Response>")


@pytest.fixture
def service() -> Iterator[Service]:
    with FakeServer().serving() as server:
        yield Service(server)


def call(opened: Any) -> None:
    with translate_errors("calling"):
        opened.list_queues() if hasattr(opened, "list_queues") else opened.describe_regions()


@pytest.mark.parametrize("name", ["sqs", "ec2"])
@pytest.mark.parametrize("code", CODES)
def test_call_with_expired_credentials_is_repeated_after_a_new_login(
    service: Service, file: Path, name: str, code: str
) -> None:
    service.code = code
    opened = client(service.settings, name, "us-east-1")
    with pytest.raises(CredentialsError, match=code):
        call(opened)
    assert service.calls == ["AKIDOLD"]
    log_in(file, "AKIDNEW")
    call(opened)
    call(opened)
    assert service.calls == ["AKIDOLD", "AKIDOLD", "AKIDNEW", "AKIDNEW"]


def test_new_login_that_is_refused_too_is_used_once_per_call(service: Service, file: Path) -> None:
    opened = client(service.settings, "sqs", "us-east-1")
    log_in(file, "AKIDWORSE")
    with pytest.raises(CredentialsError):
        call(opened)
    assert service.calls == ["AKIDOLD", "AKIDWORSE"]


def test_expired_keys_of_the_environment_are_replaced_by_those_of_the_profile(
    service: Service, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    opened = client(service.settings, "sqs", "us-east-1")
    log_in(file, "AKIDNEW")
    call(opened)
    assert service.calls == ["AKIDENV", "AKIDNEW"]


def test_environment_with_a_past_expiration_is_an_error_of_the_credentials(
    service: Service, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2026-01-01T00:00:00Z")
    file.unlink()
    opened = client(service.settings, "sqs", "us-east-1")
    with pytest.raises(CredentialsError, match="expired"):
        call(opened)
    log_in(file, "AKIDNEW")
    call(opened)
    assert service.calls == ["AKIDNEW"]


@pytest.mark.parametrize("name", ["sqs", "ec2"])
def test_credentials_that_were_missing_when_the_client_was_created_are_read_again(
    service: Service, file: Path, name: str
) -> None:
    file.unlink()
    opened = client(service.settings, name, "us-east-1")
    with pytest.raises(CredentialsError, match="no AWS credentials found"):
        call(opened)
    log_in(file, "AKIDNEW")
    call(opened)
    assert service.calls == ["AKIDNEW"]


def test_keys_of_the_settings_are_not_read_again(service: Service, file: Path) -> None:
    own = AwsSettings(endpoint_url=service.settings.endpoint_url, access_key="AKIDSET", secret_key="s")
    opened = client(own, "sqs", "us-east-1")
    log_in(file, "AKIDNEW")
    with pytest.raises(CredentialsError):
        call(opened)
    assert service.calls == ["AKIDSET"]


def test_file_that_cannot_be_read_again_leaves_the_refusal(service: Service, file: Path) -> None:
    opened = client(service.settings, "sqs", "us-east-1")
    file.write_text("[default\nnonsense")
    with pytest.raises(CredentialsError, match="ExpiredToken"):
        call(opened)


def refused(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "RunInstances")


@pytest.mark.parametrize("code", [*CODES, "AuthFailure"])
def test_launch_with_expired_credentials_refuses_no_instance_type(code: str) -> None:
    found = launch_error(offer(), refused(code, "AWS was not able to validate the provided access credentials"))
    assert isinstance(found, CredentialsError)
    assert "aws sso login" in found.hint


def test_launch_of_an_image_of_another_account_is_not_about_credentials() -> None:
    found = launch_error(offer(), refused("AuthFailure", "Not authorized for images: [ami-1]"))
    assert isinstance(found, LaunchRefusedError)


@pytest.mark.parametrize(
    "error",
    [
        NoCredentialsError(),
        CredentialRetrievalError(provider="custom-process", error_msg="exit 1"),
        UnauthorizedSSOTokenError(),
        SSOTokenLoadError(error_msg="no file"),
        TokenRetrievalError(provider="sso", error_msg="Token has expired and refresh failed"),
        LoginRefreshRequired(),
    ],
)
def test_errors_of_a_login_are_errors_of_the_credentials(error: Exception) -> None:
    found: ProviderError = provider_error("listing", error)
    assert isinstance(found, CredentialsError)
    assert found.hint


# The end of credentials


END = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
TEXT = "2027-01-02T03:04:05Z"


def test_end_of_keys_of_the_environment_is_known(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert credentials_end(AwsSettings()) is None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    assert credentials_end(AwsSettings()) is None
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", TEXT)
    assert credentials_end(AwsSettings()) == END
    assert credentials_end(AwsSettings(access_key="AKIDSET", secret_key="s")) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"aws_expiration = {TEXT}", END),
        ("x_security_token_expires = 2027-01-02T03:04:05+00:00", END),
        ("aws_expiration = 2027-01-02 03:04:05", END),
        ("aws_expiration = tomorrow", None),
        ("", None),
    ],
)
def test_end_that_a_login_tool_wrote_into_the_file_is_known(file: Path, line: str, expected: datetime | None) -> None:
    file.write_text(f"{file.read_text()}{line}\n")
    assert credentials_end(AwsSettings()) == expected


@pytest.mark.parametrize("content", [f'{{"expiresAt": "{TEXT}"}}', "[]", "nonsense", "{}", None])
def test_end_of_a_token_of_sso_is_known(file: Path, monkeypatch: pytest.MonkeyPatch, content: str | None) -> None:
    monkeypatch.setenv("HOME", str(file.parent))
    config = file.parent / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    url = "https://example.invalid/start"
    config.write_text(
        f"[profile work]\nsso_start_url = {url}\nsso_region = us-east-1\nsso_account_id = 1\nsso_role_name = r\n"
    )
    cache = file.parent / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    if content is not None:
        (cache / f"{hashlib.sha1(url.encode()).hexdigest()}.json").write_text(content)
    assert credentials_end(AwsSettings(profile="work")) == (END if content and "expires" in content else None)
