"""Expired credentials: the real SDK's errors are recognized, and a new login is used without a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google.oauth2.credentials as user_credentials
import pytest
from fake_server import Answer, FakeServer, Request
from google.api_core import exceptions as api
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import AuthorizedSession

from cloud_tasks.errors import CredentialsError, ProviderError
from cloud_tasks_gcp.compute.clients import Clients
from cloud_tasks_gcp.compute.compute_errors import after_launch_request
from cloud_tasks_gcp.compute.compute_errors import translate_errors as translate_compute
from cloud_tasks_gcp.credentials import credentials
from cloud_tasks_gcp.queue.pubsub_errors import translate_errors as translate_pubsub
from cloud_tasks_gcp.renewed_credentials import forget_tokens
from cloud_tasks_gcp.rest import Rest
from cloud_tasks_gcp.settings import GcpSettings


class Google:
    """Google's sign-in and a service: one login is valid."""

    def __init__(self, server: FakeServer, file: Path) -> None:
        self.file, self.url = file, server.url
        self.valid = "old"
        self.sign_ins: list[str] = []
        server.route("POST", "/token", self._sign_in)
        server.route("GET", "/.*", self._serve)
        self.log_in("old")

    def log_in(self, login: str) -> None:
        content = {
            "type": "authorized_user",
            "client_id": "id",
            "client_secret": "not-to-be-shown",
            "refresh_token": login,
        }
        self.file.write_text(json.dumps(content))

    def _sign_in(self, request: Request) -> Answer:
        login = request.body.decode().partition("refresh_token=")[2].partition("&")[0]
        self.sign_ins.append(login)
        if login != self.valid:
            body = {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
            return Answer(status=400, body=body)
        return Answer(
            body={"access_token": f"token-{login}-{len(self.sign_ins)}", "expires_in": 3600, "token_type": "Bearer"}
        )

    def _serve(self, request: Request) -> Answer:
        if request.headers.get("authorization", "").startswith(f"Bearer token-{self.valid}-"):
            return Answer(body={"ok": True})
        error = {"code": 401, "status": "UNAUTHENTICATED", "message": "Request had invalid authentication credentials."}
        return Answer(status=401, body={"error": error})


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "user.json"))
    with FakeServer().serving() as server:
        monkeypatch.setattr(user_credentials, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{server.url}/token")
        yield Google(server, tmp_path / "user.json")


def call(session: Any, google: Google) -> int:
    status: int = session.get(f"{google.url}/v1/projects").status_code
    return status


def test_new_login_is_used_without_a_restart(google: Google) -> None:
    session: Any = AuthorizedSession(credentials(GcpSettings()))
    assert call(session, google) == 200
    google.valid = "new"
    with pytest.raises(RefreshError):
        call(session, google)
    google.log_in("new")
    assert call(session, google) == 200
    sign_ins = len(google.sign_ins)
    assert call(session, google) == 200
    assert len(google.sign_ins) == sign_ins


def test_new_login_is_used_with_another_quota_project(google: Google) -> None:
    own: Any = credentials(GcpSettings())
    other = own.with_quota_project("q")
    google.valid = "new"
    google.log_in("new")
    assert call(AuthorizedSession(other), google) == 200
    assert other.quota_project_id == "q"
    assert own.quota_project_id is None


def test_login_that_cannot_be_read_again_leaves_the_refusal(google: Google) -> None:
    session: Any = AuthorizedSession(credentials(GcpSettings()))
    google.valid = "new"
    google.file.write_text("nonsense")
    with pytest.raises(RefreshError, match="invalid_grant"):
        call(session, google)
    google.file.unlink()
    with pytest.raises(RefreshError, match="invalid_grant"):
        call(session, google)


def test_token_that_a_service_refused_is_not_used_again(google: Google) -> None:
    own: Any = credentials(GcpSettings())
    assert call(AuthorizedSession(own), google) == 200
    google.valid = "new"
    google.log_in("new")
    with (
        pytest.raises(CredentialsError, match="gcloud auth application-default login"),
        translate_pubsub("sending", "p"),
    ):
        raise api.Unauthenticated("Request had invalid authentication credentials.")
    assert not own.valid
    assert call(AuthorizedSession(own), google) == 200
    forget_tokens()


REFUSALS = [
    RefreshError("invalid_grant: Token has been expired or revoked.", {"error": "invalid_grant"}),
    RefreshError("Reauthentication is needed."),
    api.Unauthorized("Request had invalid authentication credentials."),
    api.Unauthenticated("Request had invalid authentication credentials."),
]


@pytest.mark.parametrize("error", REFUSALS, ids=str)
@pytest.mark.parametrize("launching", [True, False])
def test_expired_credentials_refuse_no_launch_but_the_account(error: Exception, launching: bool) -> None:
    with pytest.raises(CredentialsError) as found, translate_compute("start ct-1", launching=launching):
        raise error
    assert "gcloud auth application-default login" in found.value.hint
    with pytest.raises(ProviderError) as later, after_launch_request(), translate_compute("start ct-1"):
        raise error
    assert later.value.transient
    assert not isinstance(later.value, CredentialsError)


@pytest.mark.parametrize(
    "text",
    [
        "Getting metadata from plugin failed with error: ('invalid_grant: Token has been expired or revoked.', {})",
        "Getting metadata from plugin failed with error: Reauthentication is needed. Please run `gcloud auth",
    ],
)
def test_queue_call_without_a_token_is_refused_for_the_credentials(text: str) -> None:
    with pytest.raises(CredentialsError), translate_pubsub("sending", "p"):
        raise api.ServiceUnavailable(text)
    with pytest.raises(CredentialsError), translate_pubsub("sending", "p"):
        raise RefreshError(text)


def test_rest_call_with_expired_credentials_names_the_login(google: Google) -> None:
    google.valid = "new"
    settings = GcpSettings(project_id="p")
    with Rest(settings, google.url, service="compute.googleapis.com") as rest, pytest.raises(CredentialsError):
        rest.get("v1/projects")


def test_listings_name_no_quota_project_for_the_credentials_of_a_person(google: Google) -> None:
    # They need no permission serviceusage.services.use, like all calls of the SDK to Compute Engine.
    clients = Clients(GcpSettings(project_id="p"), "p")
    with clients.acquire() as one:
        assert one.rest._session.credentials.quota_project_id is None
    clients.close()
