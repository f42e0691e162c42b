"""What the errors of Azure Storage mean: passing trouble, something that is not there, or a mistake.

Codes: "Common REST API error codes", "Queue Storage error codes" and "Blob Storage error codes" in the Azure
documentation.

Invariants, each with a test:

1. No exception of the SDK leaves: each becomes a `ProviderError` or `NotFoundError` of one line.
2. No query of an address is in a message: a shared access signature is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from azure.core import exceptions as sdk

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_azure.credentials import auth_failure

__all__ = ["BEING_DELETED", "calling", "code_of", "is_lost"]

BEING_DELETED = frozenset({"QueueBeingDeleted", "ContainerBeingDeleted"})
_PASSING = frozenset({"InternalError", "OperationTimedOut", "ServerBusy"}) | BEING_DELETED
_ABSENT = frozenset({"QueueNotFound", "ContainerNotFound", "BlobNotFound", "ResourceNotFound"})
_LOST = frozenset({"MessageNotFound", "PopReceiptMismatch"})
_DENIED = frozenset({"AuthorizationPermissionMismatch", "AuthorizationFailure", "InsufficientAccountPermissions"})
_POLICY = "see which roles are needed: cloud-tasks doctor --policy"


@contextmanager
def calling(doing: str) -> Iterator[None]:
    """Turn what the SDK raises inside into a `ProviderError` that begins with ``doing``."""
    try:
        yield
    except sdk.AzureError as error:
        raise _meaning(doing, error) from error


def code_of(error: BaseException | None) -> str:
    """The service's own code; the exception's name where there is none."""
    code = getattr(error, "error_code", None)
    # Where the SDK knows a code it makes an enumeration's member of it.
    return str(getattr(code, "value", code) or type(error).__name__)


def is_lost(error: ProviderError) -> bool:
    """Whether a call about a message failed because its lease is over, or the message or its queue gone."""
    return isinstance(error, NotFoundError) or code_of(error.__cause__) in _LOST


def _meaning(doing: str, error: sdk.AzureError) -> ProviderError:
    code = code_of(error)
    if isinstance(error, sdk.HttpResponseError):
        status = error.status_code or 0
        text = f"{doing}: {code}: {_line(error)}"
        if code in _ABSENT:
            return NotFoundError(text)
        if code in _DENIED:
            return ProviderError(text, hint=_POLICY)
        if isinstance(error, sdk.ClientAuthenticationError):
            told = auth_failure(error)
            return ProviderError(f"{doing}: {told.message}", hint=told.hint)
        return ProviderError(text, transient=code in _PASSING or status >= 500 or status in (408, 429))
    # No connection, no answer in time, or an answer that nobody can read: somebody in between, or nobody at all.
    return ProviderError(f"{doing}: {_line(error)}", transient=True)


def _line(error: BaseException) -> str:
    """The first line of what the SDK says, without what an address asks for."""
    lines = str(error).strip().splitlines()
    return re.sub(r"\?\S*", "", lines[0] if lines else type(error).__name__)[:300].rstrip(". ")
