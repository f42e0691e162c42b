"""Which storage account, and as whom: the only maker of its clients.

In this order: a connection string (from the environment, as Azure's own tools take it), one in a file that only its
owner can read, and else the account by name or address, with the identity of `cloud_tasks_azure.credentials`.

Invariants, each with a test:

1. No key, signature or connection string is in an error, a log line or the text of an object.
2. A file that another user of the machine could read is refused before it is read.
3. A bearer token is never sent in the clear.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import requests
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.queue import QueueServiceClient
from requests.adapters import HTTPAdapter

from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks_azure.credentials import credential, is_stand_in
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["blob_container", "queue_service"]

_RETRIES = {
    "initial_backoff": 1,
    "increment_base": 2,
    "retry_total": 4,
    "random_jitter_range": 1,
    "connection_timeout": 5,
    "read_timeout": 60,
}
"""Seconds; the SDK's own first pause is fifteen."""
_NO_ACCOUNT = (
    "set AZURE_STORAGE_CONNECTION_STRING, or azure.storage_account in the configuration and run: az login;"
    " az storage account list shows yours"
)


def queue_service(settings: AzureSettings, *, connections: int) -> QueueServiceClient:
    """A client of the account's queues, for use by many threads.

    Args:
        connections: How many calls may be under way at once.

    Raises:
        InputError: What was given cannot be used.
        ProviderError: No account is named.
    """
    options: dict[str, Any] = {**_RETRIES, "transport": _transport(connections)}
    text = _connection_string(settings)
    if text is not None:
        try:
            return QueueServiceClient.from_connection_string(text, **options)
        except ValueError:
            raise _broken() from None
    address = _address(settings, "queue", settings.queue_endpoint)
    return QueueServiceClient(address, credential=credential(settings), **options)


def blob_container(settings: AzureSettings, container: str, *, connections: int) -> Any:
    """A client of one container of the account; it need not exist yet. Raises as `queue_service` does."""
    from azure.storage.blob import ContainerClient

    options: dict[str, Any] = {**_RETRIES, "transport": _transport(connections)}
    text = _connection_string(settings)
    if text is not None:
        try:
            return ContainerClient.from_connection_string(text, container, **options)
        except ValueError:
            raise _broken() from None
    address = _address(settings, "blob", settings.blob_endpoint)
    return ContainerClient(address, container, credential=credential(settings), **options)


def _connection_string(settings: AzureSettings) -> str | None:
    if settings.connection_string is not None:
        return settings.connection_string
    if settings.connection_string_file is None:
        return None
    path = Path(settings.connection_string_file).expanduser()
    try:
        mode = path.stat().st_mode
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InputError(f"{path} can be read or changed by others", hint=f"run: chmod 600 {path}")
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"azure.connection_string_file: {path} cannot be read ({type(error).__name__})") from error


def _address(settings: AzureSettings, service: str, endpoint: str | None) -> str:
    if endpoint is None:
        account = settings.storage_account
        if account is None:
            raise ProviderError("no storage account is named", hint=_NO_ACCOUNT)
        if "://" not in account:
            return f"https://{account}.{service}.core.windows.net"
        # The address of any of its services tells those of the others.
        endpoint = re.sub(r"\.(queue|blob|file|table|dfs)\.", f".{service}.", account.rstrip("/"), count=1)
    if is_stand_in(endpoint):
        raise ProviderError(
            f"{endpoint} is not https: no token is sent there", hint="give AZURE_STORAGE_CONNECTION_STRING"
        )
    return endpoint


def _broken() -> InputError:
    return InputError("the connection string of the storage account cannot be read (it is not shown)", hint=_NO_ACCOUNT)


def _transport(connections: int) -> RequestsTransport:
    """With as many connections as there are calls at once: the SDK's own has ten, and throws the others away."""
    session = requests.Session()
    adapter = HTTPAdapter(pool_maxsize=connections)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return RequestsTransport(session=session)
