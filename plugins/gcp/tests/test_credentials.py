"""Credentials, identity and project id, and their errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import google.auth.exceptions
import pytest
from google.auth import impersonated_credentials
from google.auth.credentials import AnonymousCredentials

from cloud_tasks.errors import ProviderError
from cloud_tasks_gcp.credentials import auth_failure, credentials, identity, is_emulator, project_id
from cloud_tasks_gcp.settings import GcpSettings

SECRET = "GOCSPX-do-not-show"


@pytest.fixture(autouse=True)
def without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove all credentials from the environment, and disable the metadata server."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("PATH", str(tmp_path))
    # Read from the environment when it is imported, which may have been long ago.
    monkeypatch.setattr("google.auth.compute_engine._metadata._NO_GCE_CHECK", True)


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    """Write the file of `gcloud auth application-default login`."""
    path = tmp_path / "user.json"
    content = {
        "type": "authorized_user",
        "client_id": "id.apps.googleusercontent.com",
        "client_secret": SECRET,
        "refresh_token": SECRET,
    }
    path.write_text(json.dumps(content))
    return path


def test_credentials_reads_credentials_file(user_file: Path) -> None:
    found: Any = credentials(GcpSettings(credentials_file=user_file))
    assert found.refresh_token == SECRET


def test_credentials_expands_tilde_in_file_name(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(user_file.parent))
    found: Any = credentials(GcpSettings(credentials_file=Path("~/user.json")))
    assert found.refresh_token == SECRET


def test_credentials_defaults_to_application_default_credentials(
    user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(user_file))
    found: Any = credentials(GcpSettings())
    assert found.refresh_token == SECRET


def test_credentials_impersonates_service_account(user_file: Path) -> None:
    settings = GcpSettings(credentials_file=user_file, impersonate_service_account="robot@p.iam.gserviceaccount.com")
    found: Any = credentials(settings)
    assert isinstance(found, impersonated_credentials.Credentials)
    assert found.service_account_email == "robot@p.iam.gserviceaccount.com"


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:8085", "127.0.0.1:8085", "http://localhost:1"])
def test_credentials_for_emulator_are_anonymous(endpoint: str) -> None:
    found = credentials(GcpSettings(credentials_file=Path("/nowhere.json")), endpoint=endpoint)
    assert isinstance(found, AnonymousCredentials)


@pytest.mark.parametrize("endpoint", [None, "", "https://compute.p.googleapis.com"])
def test_is_emulator_is_false_for_https_endpoints(endpoint: str | None) -> None:
    assert not is_emulator(endpoint)


def test_project_id_prefers_settings() -> None:
    assert project_id(GcpSettings(project_id="mine", credentials_file=Path("/nowhere.json"))) == "mine"


def test_project_id_reads_environment(monkeypatch: pytest.MonkeyPatch, user_file: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(user_file))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "theirs")
    assert project_id(GcpSettings()) == "theirs"


def test_project_id_error_has_remedy(user_file: Path) -> None:
    with pytest.raises(ProviderError, match="no Google Cloud project set; add --project-id ID"):
        project_id(GcpSettings(credentials_file=user_file))


def test_credentials_error_without_credentials_has_remedy() -> None:
    with pytest.raises(ProviderError) as caught:
        credentials(GcpSettings())
    assert str(caught.value) == (
        "no Google Cloud credentials found; run: gcloud auth application-default login (or add --credentials-file FILE)"
    )
    assert not caught.value.transient


def test_credentials_error_names_missing_file() -> None:
    with pytest.raises(ProviderError, match=r"credentials file /nowhere\.json not found"):
        credentials(GcpSettings(credentials_file=Path("/nowhere.json")))


@pytest.mark.parametrize(
    "content",
    [
        "not json " + SECRET,
        json.dumps({"type": "recipe", "secret": SECRET}),
        json.dumps({"type": "service_account", "private_key": SECRET, "client_email": "x@y"}),
        json.dumps({"type": "service_account", "private_key": SECRET, "client_email": "x@y", "token_uri": "https://t"}),
        json.dumps([SECRET]),
    ],
    ids=["no JSON", "another type", "half a key file", "a broken key", "a list"],
)
def test_credentials_error_for_invalid_file_omits_content(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    with pytest.raises(ProviderError) as caught:
        credentials(GcpSettings(credentials_file=path))
    assert str(caught.value).startswith(f"{path} is not a valid Google Cloud credentials file; run:")
    assert SECRET not in str(caught.value)


def test_settings_repr_omits_content_of_credentials_file(user_file: Path) -> None:
    assert SECRET not in repr(GcpSettings(credentials_file=user_file))


@pytest.mark.parametrize(
    ("error", "target", "message", "transient"),
    [
        (google.auth.exceptions.TransportError("x"), None, "cannot reach Google's sign-in service", True),
        (google.auth.exceptions.RefreshError(SECRET), None, "credentials have expired or were revoked", False),
        (google.auth.exceptions.RefreshError(SECRET), "robot@p", "credentials have expired or were revoked", False),
        (
            google.auth.exceptions.RefreshError("Unable to acquire impersonated credentials", SECRET),
            "robot@p",
            "these credentials cannot impersonate robot@p",
            False,
        ),
        (
            google.auth.exceptions.MutualTLSChannelError(SECRET),
            None,
            "Google Cloud credentials: MutualTLSChannelError",
            False,
        ),
    ],
)
def test_auth_failure_is_one_line_without_secrets(
    error: google.auth.exceptions.GoogleAuthError, target: str | None, message: str, transient: bool
) -> None:
    ours = auth_failure(error, GcpSettings(impersonate_service_account=target))
    assert message in ours.message
    assert ours.hint
    assert ours.transient is transient
    assert SECRET not in str(ours)


@pytest.mark.parametrize(
    ("settings", "endpoint", "expected"),
    [
        ({}, None, "default application credentials"),
        ({"credentials_file": "key.json"}, None, "the credentials file key.json"),
        ({"impersonate_service_account": "c@p"}, None, "default application credentials, impersonating c@p"),
        ({"credentials_file": "key.json"}, "https://regional", "the credentials file key.json"),
        ({"credentials_file": "key.json"}, "127.0.0.1:8085", "no credentials (emulator at 127.0.0.1:8085)"),
    ],
)
def test_identity_describes_credentials_without_calls(
    settings: dict[str, Any], endpoint: str | None, expected: str
) -> None:
    assert identity(GcpSettings(**settings), endpoint=endpoint) == expected
