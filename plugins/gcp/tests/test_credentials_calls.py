"""REST calls with service account keys, against a token server that refuses, fails or grants."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fake_server import Answer, FakeServer, Request

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_gcp.rest import Rest
from cloud_tasks_gcp.settings import GcpSettings

TOKEN = "ya29.do-not-show"


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer().serving() as server:
        yield server


@pytest.fixture
def nowhere() -> Iterator[str]:
    """Yield an address on which no server listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def key_file(folder: Path, private_key: str, token_server: str, **more: str) -> GcpSettings:
    content = {
        "type": "service_account",
        "client_email": "robot@p.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": private_key,
        "token_uri": f"http://{token_server}/token",
        "project_id": "p",
        **more,
    }
    path = folder / "key.json"
    path.write_text(json.dumps(content))
    return GcpSettings(credentials_file=path)


def failure_of(settings: GcpSettings, endpoint: str) -> ProviderError:
    rest = Rest(settings, endpoint, service="compute.googleapis.com", project="p", attempts=2)
    with rest, pytest.raises(ProviderError) as caught:
        rest.get("compute/v1/projects/p")
    return caught.value


def test_rest_reports_expired_credentials(tmp_path: Path, private_key: str, server: FakeServer, nowhere: str) -> None:
    server.route("POST", "/token", lambda _: Answer(status=400, body={"error": "invalid_grant", "detail": TOKEN}))
    settings = key_file(tmp_path, private_key, server.url.removeprefix("http://"))
    error = failure_of(settings, f"https://{nowhere}")
    assert error.message == "the Google Cloud credentials have expired or were revoked"
    assert "gcloud auth application-default login" in error.hint
    assert not error.transient
    assert TOKEN not in str(error)


def test_rest_error_for_unreachable_token_server_is_transient(tmp_path: Path, private_key: str, nowhere: str) -> None:
    error = failure_of(key_file(tmp_path, private_key, nowhere), f"https://{nowhere}")
    assert error.message == "cannot reach Google's sign-in service"
    assert error.transient


def test_rest_error_for_unreachable_service_is_transient_without_token(
    tmp_path: Path, private_key: str, nowhere: str
) -> None:
    # Outside Google's default domain the key signs its tokens itself, without a token server.
    settings = key_file(tmp_path, private_key, nowhere, universe_domain="cloud.example")
    error = failure_of(settings, f"https://{nowhere}")
    assert str(error) == f"cannot reach {nowhere}: ConnectionError; check the network"
    assert error.transient


def test_rest_sends_no_token_to_emulator(tmp_path: Path, private_key: str, server: FakeServer, nowhere: str) -> None:
    seen: list[Request] = []

    def answer(request: Request) -> dict[str, str]:
        seen.append(request)
        return {"kind": "compute#project"}

    server.route("GET", "/compute/v1/projects/p", answer)
    with Rest(key_file(tmp_path, private_key, nowhere), server.url, service="compute.googleapis.com") as rest:
        assert rest.get("compute/v1/projects/p") == {"kind": "compute#project"}
    assert [request.headers.get("authorization") for request in seen] == [None]


def test_rest_raises_not_found(server: FakeServer) -> None:
    rest = Rest(GcpSettings(), server.url, service="compute.googleapis.com", project="p")
    with rest, pytest.raises(NotFoundError):
        rest.get("nowhere")
