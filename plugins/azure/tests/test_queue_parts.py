"""The parts of the queue on Storage: names, bodies, leases, pauses, errors, and who is called as whom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from azure.core import exceptions as sdk
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.errors import CloudTasksError, InputError, NotFoundError, ProviderError
from cloud_tasks_azure.queue.account import queue_service
from cloud_tasks_azure.queue.bodies import INLINE_BYTES, decode, encode, pointer, pointer_in
from cloud_tasks_azure.queue.failures import calling, is_lost
from cloud_tasks_azure.queue.leases import LeaseBook
from cloud_tasks_azure.queue.names import MAX_LENGTH, base_name, physical_name
from cloud_tasks_azure.queue.receiving import Pauses
from cloud_tasks_azure.settings import AzureSettings

VALID = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
KEY = "c2VjcmV0IGtleQ=="
STRING = f"DefaultEndpointsProtocol=https;AccountName=account;AccountKey={KEY};EndpointSuffix=core.windows.net"


@given(st.text(max_size=100))
def test_every_name_becomes_one_that_azure_takes(name: str) -> None:
    for prefix in ("", "cloud-tasks-"):
        assert VALID.fullmatch(physical_name(base_name(prefix, name), 999))


@pytest.mark.parametrize(("first", "second"), [("Job", "job"), ("a_b", "a-b"), ("x" * 90, "x" * 91), ("λ", "木")])
def test_names_that_become_alike_are_told_apart(first: str, second: str) -> None:
    assert base_name("p-", first) != base_name("p-", second)


def test_a_name_that_is_valid_stays_as_it_is() -> None:
    assert base_name("cloud-tasks-", "job-7-events") == "cloud-tasks-job-7-events"
    assert len(base_name("cloud-tasks-", "x" * 200)) <= MAX_LENGTH


@given(st.binary(max_size=300))
def test_any_body_arrives_as_it_was_and_is_taken_for_no_blob(body: bytes) -> None:
    text = encode(body)
    assert decode(text) == body
    assert pointer_in(text) is None


def test_the_largest_body_in_a_message_is_within_the_64_kib_of_the_service() -> None:
    assert len(encode(bytes(INLINE_BYTES))) <= 64 * 1024


def test_a_text_of_another_making_is_taken_as_it_is() -> None:
    assert decode("plain text!") == b"plain text!"
    assert pointer_in(pointer("folder/blob")) == "folder/blob"


def test_the_book_forgets_what_was_settled_and_what_came_again() -> None:
    book = LeaseBook()
    first = book.add("queue", "message", "receipt-1")
    second = book.add("queue", "message", "receipt-2")
    held, lost = book.split([first, second, second])
    assert ([each.lease_id for each in held], lost) == ([second], [first])
    book.forget([second])
    assert (len(book), book._latest) == (0, {})


def test_nothing_of_a_receipt_is_in_what_is_shown_of_a_lease() -> None:
    book = LeaseBook()
    (held,), _ = book.split([book.add("queue", "message", "receipt-1")])
    assert "receipt-1" not in repr(held).replace(held.lease_id, "")


def test_pauses_grow_to_the_longest_and_begin_anew_when_something_came() -> None:
    pauses = Pauses(1.0)
    seen = [pauses.next() for _ in range(8)]
    assert seen[0] <= 0.05
    assert 0.8 <= seen[-1] <= 1.0
    pauses.reset()
    assert pauses.next() <= 0.05


def http_error(code: str, status: int, text: str = "as told") -> sdk.HttpResponseError:
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
def test_a_code_of_the_service_tells_whether_to_call_again(
    code: str, status: int, kind: type[ProviderError], transient: bool
) -> None:
    with pytest.raises(ProviderError) as raised, calling("doing it"):
        raise http_error(code, status)
    assert (type(raised.value), raised.value.transient) == (kind, transient)
    assert raised.value.message == f"doing it: {code}: as told"


@pytest.mark.parametrize(
    ("code", "lost"), [("MessageNotFound", True), ("PopReceiptMismatch", True), ("ServerBusy", False)]
)
def test_a_lost_lease_is_known_by_its_code(code: str, lost: bool) -> None:
    with pytest.raises(ProviderError) as raised, calling("doing it"):
        raise http_error(code, 404)
    assert is_lost(raised.value) is lost


def test_a_lost_connection_passes_and_its_error_shows_no_signature() -> None:
    with pytest.raises(ProviderError) as raised, calling("doing it"):
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
def test_the_account_is_called_where_it_is(settings: AzureSettings, address: str) -> None:
    assert address_of(settings) == address


def test_a_connection_string_comes_from_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    file = tmp_path / "connection"
    file.write_text(f"{STRING}\n")
    file.chmod(0o600)
    assert "account" in address_of(AzureSettings(connection_string_file=str(file)))
    file.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        address_of(AzureSettings(connection_string_file=str(file)))
    with pytest.raises(InputError, match="cannot be read"):
        address_of(AzureSettings(connection_string_file=str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (AzureSettings(), "no storage account is named"),
        (AzureSettings(connection_string=f"AccountKey {KEY}"), "cannot be read"),
        (AzureSettings(storage_account="http://account.example"), "no token is sent there"),
    ],
)
def test_what_cannot_be_used_is_refused_and_not_shown(settings: AzureSettings, told: str) -> None:
    with pytest.raises(CloudTasksError, match=told) as raised:
        address_of(settings)
    assert KEY not in str(raised.value)
