"""As whom Google is called, and what is said when that is not possible."""

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
def nobody_is_signed_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without credentials of its own, whose metadata server is not there."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


@pytest.fixture
def person(tmp_path: Path) -> Path:
    """The file that `gcloud auth application-default login` writes."""
    path = tmp_path / "person.json"
    content = {
        "type": "authorized_user",
        "client_id": "id.apps.googleusercontent.com",
        "client_secret": SECRET,
        "refresh_token": SECRET,
    }
    path.write_text(json.dumps(content))
    return path


def test_a_credentials_file_is_used(person: Path) -> None:
    found: Any = credentials(GcpSettings(credentials_file=str(person)))
    assert found.refresh_token == SECRET


def test_the_home_folder_may_be_written_with_a_tilde(person: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(person.parent))
    found: Any = credentials(GcpSettings(credentials_file="~/person.json"))
    assert found.refresh_token == SECRET


def test_without_a_file_the_application_default_credentials_are_used(
    person: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(person))
    found: Any = credentials(GcpSettings())
    assert found.refresh_token == SECRET


def test_a_service_account_is_impersonated_on_request(person: Path) -> None:
    settings = GcpSettings(credentials_file=str(person), impersonate_service_account="robot@p.iam.gserviceaccount.com")
    found: Any = credentials(settings)
    assert isinstance(found, impersonated_credentials.Credentials)
    assert found.service_account_email == "robot@p.iam.gserviceaccount.com"


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:8085", "127.0.0.1:8085", "http://localhost:1"])
def test_a_stand_in_gets_no_credentials_and_none_are_looked_for(endpoint: str) -> None:
    found = credentials(GcpSettings(credentials_file="/nowhere.json"), endpoint=endpoint)
    assert isinstance(found, AnonymousCredentials)


@pytest.mark.parametrize("endpoint", [None, "", "https://compute.p.googleapis.com"])
def test_a_private_address_of_google_is_no_stand_in(endpoint: str | None) -> None:
    assert not is_emulator(endpoint)


def test_the_project_of_the_settings_comes_first() -> None:
    assert project_id(GcpSettings(project_id="mine", credentials_file="/nowhere.json")) == "mine"


def test_the_environment_may_name_the_project(monkeypatch: pytest.MonkeyPatch, person: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(person))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "theirs")
    assert project_id(GcpSettings()) == "theirs"


def test_without_a_project_the_error_says_how_to_name_one(person: Path) -> None:
    with pytest.raises(ProviderError, match="no Google Cloud project is named; give --project-id"):
        project_id(GcpSettings(credentials_file=str(person)))


def test_without_credentials_the_error_says_how_to_sign_in() -> None:
    with pytest.raises(ProviderError) as caught:
        credentials(GcpSettings())
    assert str(caught.value) == (
        "there are no Google Cloud credentials here; "
        "run: gcloud auth application-default login (or name a key file with --credentials-file)"
    )
    assert not caught.value.transient


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ProviderError, match=r"the credentials file /nowhere\.json does not exist"):
        credentials(GcpSettings(credentials_file="/nowhere.json"))


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
def test_a_file_that_holds_no_credentials_is_refused_without_showing_what_it_holds(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    with pytest.raises(ProviderError) as caught:
        credentials(GcpSettings(credentials_file=str(path)))
    assert str(caught.value).startswith(f"the credentials file {path} is not one that Google Cloud issues; make one")
    assert SECRET not in str(caught.value)


def test_settings_never_show_what_a_credentials_file_holds(person: Path) -> None:
    assert SECRET not in repr(GcpSettings(credentials_file=str(person)))


@pytest.mark.parametrize(
    ("error", "target", "message", "transient"),
    [
        (google.auth.exceptions.TransportError("x"), None, "Google's sign-in service cannot be reached", True),
        (google.auth.exceptions.RefreshError(SECRET), None, "credentials have expired or were withdrawn", False),
        (google.auth.exceptions.RefreshError(SECRET), "robot@p", "credentials have expired or were withdrawn", False),
        (
            google.auth.exceptions.RefreshError("Unable to acquire impersonated credentials", SECRET),
            "robot@p",
            "these credentials may not act as robot@p",
            False,
        ),
        (google.auth.exceptions.MutualTLSChannelError(SECRET), None, "cannot be used: MutualTLSChannelError", False),
    ],
)
def test_what_google_auth_raises_becomes_one_clear_line(
    error: google.auth.exceptions.GoogleAuthError, target: str | None, message: str, transient: bool
) -> None:
    ours = auth_failure(error, GcpSettings(impersonate_service_account=target))
    assert message in ours.message
    assert ours.hint
    assert ours.transient is transient
    assert SECRET not in str(ours)


@pytest.mark.parametrize(
    ("settings", "endpoint", "told"),
    [
        ({}, None, "default application credentials"),
        ({"credentials_file": "key.json"}, None, "the credentials file key.json"),
        ({"impersonate_service_account": "c@p"}, None, "default application credentials to act as c@p"),
        ({"credentials_file": "key.json"}, "https://regional", "the credentials file key.json"),
        ({"credentials_file": "key.json"}, "127.0.0.1:8085", "no credentials, for 127.0.0.1:8085"),
    ],
)
def test_who_calls_is_told_without_asking_anybody(settings: dict[str, Any], endpoint: str | None, told: str) -> None:
    assert identity(GcpSettings(**settings), endpoint=endpoint) == told
