"""Unit tests of Storage Queue: names, bodies, leases, backoff, errors and the account client."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from azure.core import exceptions as sdk
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.errors import CloudTasksError, InputError, NotFoundError, ProviderError
from cloud_tasks.plugin.kit import Held
from cloud_tasks_azure.queue.account import queue_service
from cloud_tasks_azure.queue.names import MAX_LENGTH, azure_name
from cloud_tasks_azure.queue.queue_errors import is_lost, translate_errors
from cloud_tasks_azure.queue.storage_queue import INLINE_BYTES, PollBackoff, Receipt, StorageQueue, decode, encode
from cloud_tasks_azure.settings import AzureSettings

VALID = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
KEY = "c2VjcmV0IGtleQ=="
STRING = f"DefaultEndpointsProtocol=https;AccountName=account;AccountKey={KEY};EndpointSuffix=core.windows.net"


@given(st.text(max_size=100))
def test_azure_name_is_valid_for_every_name(name: str) -> None:
    for prefix in ("", "cloud-tasks-"):
        assert VALID.fullmatch(azure_name(prefix, name))


NAMES = st.text(max_size=100) | st.from_regex(r"[a-z][-a-z0-9]{0,62}-[0-9a-f]{16}-[0-9]{1,3}(-events)?", fullmatch=True)


@given(NAMES, NAMES)
def test_azure_name_belongs_to_one_name(first: str, second: str) -> None:
    assert (azure_name("ct-", first) == azure_name("ct-", second)) == (first == second)
    shortened = azure_name("", "x" * 90)
    assert azure_name("", shortened) != shortened


@pytest.mark.parametrize(("first", "second"), [("Job", "job"), ("a_b", "a-b"), ("x" * 90, "x" * 91), ("λ", "木")])
def test_azure_name_of_different_names_differs(first: str, second: str) -> None:
    assert azure_name("p-", first) != azure_name("p-", second)


def test_azure_name_keeps_valid_names() -> None:
    assert azure_name("cloud-tasks-", "job-7-events") == "cloud-tasks-job-7-events"
    assert len(azure_name("cloud-tasks-", "x" * 200)) <= MAX_LENGTH


@given(st.binary(max_size=300))
def test_encode_decode_round_trip(body: bytes) -> None:
    assert decode(encode(body)) == body


def test_inline_bytes_encode_to_at_most_64_kib() -> None:
    assert len(encode(bytes(INLINE_BYTES))) <= 64 * 1024


def test_decode_returns_invalid_base64_unchanged() -> None:
    assert decode("plain text!") == b"plain text!"


def test_receipt_is_hidden_in_its_repr() -> None:
    assert "receipt-1" not in repr(Receipt("message", "receipt-1"))


class _Client:
    def __init__(self) -> None:
        self.deleted: list[str] = []

    def get_queue_client(self, name: str) -> _Client:
        return self

    def delete_message(self, message_id: str, receipt: str) -> None:
        self.deleted.append(message_id)

    def update_message(self, *arguments: object, **options: object) -> None:
        raise http_error("MessageNotFound", 404)

    def close(self) -> None:
        """Do nothing: no connection is open."""


def test_extension_that_waited_for_an_ack_is_no_lost_lease() -> None:
    client, lease = _Client(), timedelta(seconds=60)
    queue = StorageQueue(client, "tasks", {}, lease=lease, threads=1, max_pause=1)
    acked, gone = (
        Held(lease_id=name, payload=Receipt(name, "receipt"), key=name, received_at=0, ends_at=60)
        for name in ("message-0", "message-1")
    )
    assert queue._ack([acked]) == {}
    assert queue._change([acked], [lease]) == {}
    (refused,) = queue._change([gone], [lease]).values()
    assert not refused.transient
    assert client.deleted == ["message-0"]
    queue.close()


def test_poll_backoff_grows_to_the_maximum_and_resets() -> None:
    backoff = PollBackoff(1.0)
    seen = [backoff.next_pause() for _ in range(8)]
    assert seen[0] <= 0.05
    assert 0.8 <= seen[-1] <= 1.0
    backoff.reset()
    assert backoff.next_pause() <= 0.05


def http_error(code: str, status: int, text: str = "injected") -> sdk.HttpResponseError:
    kind = sdk.ResourceNotFoundError if status == 404 else sdk.HttpResponseError
    error = kind(f"{text}\nRequestId:1\nTime:2")
    error.status_code = status
    error.error_code = code  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("code", "status", "kind", "transient"),
    [
        ("QueueNotFound", 404, NotFoundError, False),
        ("MessageNotFound", 404, ProviderError, False),
        ("PopReceiptMismatch", 400, ProviderError, False),
        ("ServerBusy", 503, ProviderError, True),
        ("OperationTimedOut", 500, ProviderError, True),
        ("QueueBeingDeleted", 409, ProviderError, True),
        ("AuthorizationPermissionMismatch", 403, ProviderError, False),
        ("InvalidQueryParameterValue", 400, ProviderError, False),
    ],
)
def test_translate_errors_maps_service_codes(
    code: str, status: int, kind: type[ProviderError], transient: bool
) -> None:
    with pytest.raises(ProviderError) as raised, translate_errors("sending"):
        raise http_error(code, status)
    assert (type(raised.value), raised.value.transient) == (kind, transient)
    assert raised.value.message == f"sending: {code}: injected"


@pytest.mark.parametrize(
    ("code", "lost"), [("MessageNotFound", True), ("PopReceiptMismatch", True), ("ServerBusy", False)]
)
def test_is_lost_depends_on_the_service_code(code: str, lost: bool) -> None:
    with pytest.raises(ProviderError) as raised, translate_errors("sending"):
        raise http_error(code, 404)
    assert is_lost(raised.value) is lost


def test_connection_error_is_transient_and_hides_signatures() -> None:
    with pytest.raises(ProviderError) as raised, translate_errors("sending"):
        raise sdk.ServiceRequestError("GET https://a.queue.core.windows.net/q?sv=1&sig=abcdef failed")
    assert raised.value.transient
    assert "abcdef" not in str(raised.value)


def address_of(settings: AzureSettings) -> str:
    with queue_service(settings, connections=4) as service:
        return str(service.url)


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        (AzureSettings(connection_string=STRING), "https://account.queue.core.windows.net/"),
        (AzureSettings(storage_account="account"), "https://account.queue.core.windows.net/"),
        (
            AzureSettings(storage_account="https://account.blob.core.chinacloudapi.cn/"),
            "https://account.queue.core.chinacloudapi.cn/",
        ),
        (AzureSettings(storage_account="account", queue_endpoint="https://own.example"), "https://own.example/"),
    ],
)
def test_queue_service_uses_the_accounts_address(settings: AzureSettings, address: str) -> None:
    assert address_of(settings) == address


def test_connection_string_file_must_be_private(tmp_path: Path) -> None:
    file = tmp_path / "connection"
    file.write_text(f"{STRING}\n")
    file.chmod(0o600)
    assert "account" in address_of(AzureSettings(connection_string_file=file))
    file.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        address_of(AzureSettings(connection_string_file=file))
    with pytest.raises(InputError, match="cannot read"):
        address_of(AzureSettings(connection_string_file=tmp_path / "none"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (AzureSettings(), "no storage account is configured"),
        (AzureSettings(connection_string=f"AccountKey {KEY}"), "invalid connection string"),
        (AzureSettings(storage_account="http://account.example"), "no token is sent"),
    ],
)
def test_queue_service_rejects_invalid_settings_without_showing_them(settings: AzureSettings, expected: str) -> None:
    with pytest.raises(CloudTasksError, match=expected) as raised:
        address_of(settings)
    assert KEY not in str(raised.value)
