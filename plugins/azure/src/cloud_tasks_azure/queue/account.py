"""Clients of the storage account. The only place that creates them.

Order: a connection string (from the environment, as in Azure's own tools); one in a file that only its owner can read;
the account by name or URL, with the credential of `cloud_tasks_azure.credentials`.

Invariants, each with a test:

1. Keys, signatures and connection strings never appear in an error, a log line or a ``repr``.
2. A file that other users of this machine can read is refused before it is read.
3. A bearer token is never sent unencrypted.
4. An answer that is not Azure's is a transient error.
"""

from __future__ import annotations

import os
import re
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import requests
from azure.core.exceptions import ServiceResponseError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.queue import QueueServiceClient
from requests.adapters import HTTPAdapter

from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks_azure.credentials import credential, is_emulator
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["address_of", "blob_container", "connection_string", "credentials_end", "queue_service"]

_RETRIES = {
    "initial_backoff": 1,
    "increment_base": 2,
    "retry_total": 4,
    "random_jitter_range": 1,
    "connection_timeout": 5,
    "read_timeout": 60,
}
"""Seconds; the SDK's default initial backoff is 15 s."""
_NO_ACCOUNT = (
    "set AZURE_STORAGE_CONNECTION_STRING, or set azure.storage_account and run: az login;"
    " list accounts with: az storage account list"
)


def queue_service(settings: AzureSettings, *, connections: int) -> QueueServiceClient:
    """Return a thread-safe client of the account's queues.

    Args:
        connections: Maximum concurrent calls.

    Raises:
        InputError: The connection string or its file is invalid.
        ProviderError: No account is configured.
    """
    found: QueueServiceClient = _client(QueueServiceClient, settings, "queue", settings.queue_endpoint, connections)
    return found


def blob_container(settings: AzureSettings, container: str, *, connections: int) -> Any:
    """Return a client of one container, which need not exist yet. Raises the same errors as `queue_service`."""
    from azure.storage.blob import ContainerClient

    return _client(ContainerClient, settings, "blob", settings.blob_endpoint, connections, container)


def _client(
    kind: Any, settings: AzureSettings, service: str, endpoint: str | None, connections: int, *names: str
) -> Any:
    options = {**_RETRIES, "transport": _transport(connections), "raw_response_hook": _require_azure}
    text = connection_string(settings)
    if text is None:
        return kind(_address(settings, service, endpoint), *names, credential=credential(settings), **options)
    try:
        return kind.from_connection_string(text, *names, **options)
    except ValueError:
        message = "invalid connection string of the storage account (not shown: secret)"
        raise InputError(message, hint=_NO_ACCOUNT) from None


def credentials_end(settings: AzureSettings) -> datetime | None:
    """Return the end of the shared access signature of a connection string; None without one."""
    signature = re.search(r"SharedAccessSignature=\??([^;]*)", connection_string(settings) or "")
    (end,) = parse_qs(signature[1] if signature else "").get("se", [""])[:1]
    try:
        found = datetime.fromisoformat(end)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def connection_string(settings: AzureSettings) -> str | None:
    """Return the connection string of the settings or of its file. Raises `InputError` for an invalid file."""
    if settings.connection_string is not None:
        return settings.connection_string
    if settings.connection_string_file is None:
        return None
    path = Path(settings.connection_string_file).expanduser()
    try:
        mode = path.stat().st_mode
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InputError(f"{path}: readable or writable by other users", hint=f"run: chmod 600 {path}")
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"azure.connection_string_file: cannot read {path} ({type(error).__name__})") from error


def _address(settings: AzureSettings, service: str, endpoint: str | None) -> str:
    found = address_of(settings, service, endpoint)
    if is_emulator(found):
        raise ProviderError(
            f"{found} is not https: no token is sent", hint="set AZURE_STORAGE_CONNECTION_STRING instead"
        )
    return found


def address_of(settings: AzureSettings, service: str, endpoint: str | None) -> str:
    """Return the address of a service of the storage account: its endpoint, if it has one.

    Raises:
        ProviderError: No account is configured.
    """
    if endpoint is not None:
        return endpoint
    account = settings.storage_account
    if account is None:
        raise ProviderError("no storage account is configured", hint=_NO_ACCOUNT)
    if "://" not in account:
        return f"https://{account}.{service}.core.windows.net"
    # The services of an account differ in one label of their addresses.
    return re.sub(r"\.(queue|blob|file|table|dfs)\.", f".{service}.", account.rstrip("/"), count=1)


def _require_azure(response: Any) -> None:
    """Refuse the page of a proxy, which the SDK would take for a success without content, or for a missing queue."""
    answer = response.http_response
    if (answer.status_code < 400 or answer.status_code == 404) and not any(
        name.lower().startswith("x-ms-") for name in answer.headers
    ):
        raise ServiceResponseError("invalid response, as from a proxy")


def _transport(connections: int) -> RequestsTransport:
    """Return a transport with a connection per concurrent call: the SDK's own keeps ten and discards the others."""
    session = requests.Session()
    adapter = HTTPAdapter(pool_maxsize=connections)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return RequestsTransport(session=session)
