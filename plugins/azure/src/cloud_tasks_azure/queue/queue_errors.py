"""Translation of Azure Storage errors: transient, not found, credentials, permissions or permanent.

Codes: "Common REST API error codes", "Queue Storage error codes" and "Blob Storage error codes" in the Azure
documentation.

Invariants, each with a test:

1. No SDK exception leaves: each becomes a `ProviderError` or `NotFoundError` of one line.
2. The query of a URL never appears in a message: it may be a shared access signature.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from azure.core import exceptions as sdk

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_azure.credentials import credential_error

__all__ = ["BEING_DELETED", "code_of", "is_lost", "translate_errors"]

BEING_DELETED = frozenset({"QueueBeingDeleted", "ContainerBeingDeleted"})
_TRANSIENT = frozenset({"InternalError", "OperationTimedOut", "ServerBusy"})
_NOT_FOUND = frozenset({"QueueNotFound", "ContainerNotFound", "BlobNotFound", "ResourceNotFound"})
_LOST = frozenset({"MessageNotFound", "PopReceiptMismatch"})
_DENIED = frozenset({"AuthorizationPermissionMismatch", "AuthorizationFailure", "InsufficientAccountPermissions"})
_DELETING = "Azure refuses the name of a deleted queue for half a minute or longer: repeat the command"
_POLICY = "show the required roles with: cloud-tasks doctor --policy"


@contextmanager
def translate_errors(action: str) -> Iterator[None]:
    """Translate SDK exceptions into a `ProviderError` whose message starts with ``action``."""
    try:
        yield
    except sdk.AzureError as error:
        raise _provider_error(action, error) from error


def code_of(error: BaseException | None) -> str:
    """Return the service's error code, or the exception's class name."""
    code = getattr(error, "error_code", None)
    # The SDK converts known codes to an enum.
    return str(getattr(code, "value", code) or type(error).__name__)


def is_lost(error: ProviderError) -> bool:
    """Return whether a call failed because the lease expired, or the message or queue no longer exists."""
    return isinstance(error, NotFoundError) or code_of(error.__cause__) in _LOST


def _provider_error(action: str, error: sdk.AzureError) -> ProviderError:
    code = code_of(error)
    if isinstance(error, sdk.HttpResponseError):
        status = error.status_code or 0
        text = f"{action}: {code}: {_line(error)}"
        if code in _NOT_FOUND:
            return NotFoundError(text)
        if code in _DENIED:
            return ProviderError(text, hint=_POLICY)
        if isinstance(error, sdk.ClientAuthenticationError):
            return credential_error(error, action)
        if code in BEING_DELETED:
            return ProviderError(text, transient=True, hint=_DELETING)
        return ProviderError(text, transient=code in _TRANSIENT or status >= 500 or status in (408, 429))
    # No connection, a timeout, or an invalid response, as from a proxy.
    return ProviderError(f"{action}: {_line(error)}", transient=True)


def _line(error: BaseException) -> str:
    """Return the first line of an error message without queries of URLs."""
    lines = str(error).strip().splitlines()
    return re.sub(r"\?\S*", "", lines[0] if lines else type(error).__name__)[:300].rstrip(". ")
