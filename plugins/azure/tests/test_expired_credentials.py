"""Expired credentials of Azure: the real SDK's errors are recognized, and refuse no launch but the account."""

from __future__ import annotations

import json
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from arm_fake import SUBSCRIPTION
from arm_requests import wanted
from azure.core import PipelineClient
from azure.core import exceptions as sdk
from azure.core.credentials import AccessToken
from azure.core.pipeline.policies import BearerTokenCredentialPolicy
from azure.core.rest import HttpRequest, HttpResponse
from azure.identity import CredentialUnavailableError
from azure.servicebus import exceptions as bus
from azurite import Azurite
from fake_server import Answer, FakeServer, Request
from storage_faults import StorageFaults

from cloud_tasks.errors import CredentialsError, ProviderError
from cloud_tasks.plugin import ComputeContext
from cloud_tasks.registry import Registry
from cloud_tasks_azure.compute import arm as resource_manager
from cloud_tasks_azure.compute.compute_errors import after_launch_request, translate_errors
from cloud_tasks_azure.queue.account import queue_service
from cloud_tasks_azure.queue.queue_errors import translate_errors as translate_queue
from cloud_tasks_azure.servicebus.errors import translate_errors as translate_bus
from cloud_tasks_azure.settings import AzureSettings

CODES = ("ExpiredAuthenticationToken", "InvalidAuthenticationToken", "InvalidAuthenticationTokenTenant")


def refusing(code: str) -> FakeServer:
    server = FakeServer()
    body = {"error": {"code": code, "message": "The access token expiry UTC time is earlier than current UTC time."}}
    server.route("*", ".*", lambda request: Answer(status=401, body=body))
    return server


@pytest.mark.parametrize("code", CODES)
def test_listing_and_launch_with_an_expired_token_are_refused_for_the_credentials(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(resource_manager, "_RETRIES", 0)
    backend = Registry(only=["azure"]).compute("azure")
    with refusing(code).serving() as server:
        settings = AzureSettings(subscription_id=SUBSCRIPTION, management_endpoint=server.url)
        with backend.open(settings, ComputeContext(job_id="job", region="eastus")) as compute:
            with pytest.raises(CredentialsError) as refused:
                compute.instances("job")
            assert "az login" in refused.value.hint
            with pytest.raises(CredentialsError):
                compute.launch(wanted())


@pytest.mark.parametrize(
    "error",
    [
        sdk.ClientAuthenticationError("AADSTS700082: The refresh token has expired due to inactivity."),
        CredentialUnavailableError("Please run 'az login' to set up an account"),
    ],
)
def test_login_that_has_ended_is_an_error_of_the_credentials(error: sdk.AzureError) -> None:
    for translate in (translate_errors, translate_queue, translate_bus):
        with pytest.raises(ProviderError) as found, translate("list instances"):
            raise error
        assert isinstance(found.value, CredentialsError)
        assert "az login" in found.value.hint
    with pytest.raises(ProviderError) as later, after_launch_request():
        raise error
    assert later.value.transient
    assert not isinstance(later.value, CredentialsError)


def test_expired_signature_of_a_storage_account_is_an_error_of_the_credentials() -> None:
    # Every call is refused before it would reach an account.
    address = "http://127.0.0.1:9/standin"
    storage = Azurite(queue_endpoint=address, blob_endpoint=address, clock=Path())
    faults = StorageFaults(storage.queue_endpoint)
    faults.fail("GET", "/standin/", "AuthenticationFailed", status=403, times=9)
    text = storage.connection_string.replace(f"QueueEndpoint={address}", f"QueueEndpoint={faults.endpoint}")
    with (
        faults.server.serving(),
        queue_service(AzureSettings(connection_string=text), connections=1) as service,
        pytest.raises(CredentialsError),
        translate_queue("listing queues"),
    ):
        list(service.list_queues())


def test_service_bus_distinguishes_credentials_from_permissions() -> None:
    with pytest.raises(CredentialsError), translate_bus("sending"):
        raise bus.ServiceBusAuthenticationError(message="ExpiredToken: The token is expired.")
    with pytest.raises(ProviderError) as denied, translate_bus("sending"):
        raise bus.ServiceBusAuthorizationError(message="Unauthorized access. 'Send' claim(s) are required.")
    assert not isinstance(denied.value, CredentialsError)


def test_sdk_gets_a_new_token_after_a_refusal() -> None:
    """The SDK forgets a refused token, and asks the credential again, which reads the present login."""

    class Login:
        number = 0

        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            self.number += 1
            return AccessToken(f"token-{self.number}", 2_000_000_000)

    def answer(request: Request) -> Answer:
        if request.headers.get("authorization") == "Bearer token-1":
            return Answer(status=401, body={"error": {"code": "ExpiredAuthenticationToken", "message": "expired"}})
        return Answer(body=json.dumps({"value": []}))

    server = FakeServer()
    server.route("GET", ".*", answer)
    login = Login()
    with server.serving():
        policy = BearerTokenCredentialPolicy(login, f"{server.url}/.default")
        client: PipelineClient[HttpRequest, HttpResponse] = PipelineClient(server.url, policies=[policy])
        request = HttpRequest("GET", f"{server.url}/providers")
        refused = client.send_request(request, enforce_https=False)
        with pytest.raises(CredentialsError), translate_errors("list providers"):
            raise sdk.HttpResponseError(response=refused)
        assert client.send_request(request, enforce_https=False).json() == {"value": []}
        client.close()


class _UnreachableError(Exception):
    """Stands for the error of a connection, somewhere in the chain of causes."""


@pytest.mark.parametrize(
    "cause",
    [
        sdk.ServiceRequestError("no route"),
        requests.exceptions.ConnectionError("no route"),
        requests.exceptions.ReadTimeout("slow"),
        subprocess.TimeoutExpired("az", 10),
        socket.gaierror("no name"),
    ],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("kind", [sdk.ClientAuthenticationError, CredentialUnavailableError])
def test_sign_in_without_a_network_is_transient(cause: Exception, kind: type[sdk.ClientAuthenticationError]) -> None:
    def fail() -> None:
        try:
            try:
                raise cause
            except Exception as error:
                raise _UnreachableError from error
        except Exception as error:
            raise kind(message="Authentication failed") from error

    for translate in (translate_errors, translate_queue, translate_bus):
        with pytest.raises(ProviderError, match="cannot reach Azure to sign in") as found, translate("list instances"):
            fail()
        assert found.value.transient
        assert not isinstance(found.value, CredentialsError)


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("sv=2024-05-04&se=2027-01-02T03%3A04%3A05Z&sig=x", datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("?se=2027-01-02&sig=x", datetime(2027, 1, 2, tzinfo=UTC)),
        ("sv=2024-05-04&sig=x", None),
        ("se=soon", None),
    ],
)
def test_end_of_a_shared_access_signature_is_known(signature: str, expected: datetime | None) -> None:
    read = Registry(only=["azure"]).queue("azure").credentials_end
    assert read is not None
    text = f"QueueEndpoint=https://a.queue.core.windows.net/;SharedAccessSignature={signature}"
    assert read(AzureSettings(connection_string=text)) == expected
    assert read(AzureSettings(connection_string="AccountName=a;AccountKey=a2V5")) is None
    assert read(AzureSettings()) is None
