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
from cloud_tasks.plugin.kit import ErrorKind, ErrorRule, Problem, matching_rule
from cloud_tasks.plugin.kit import translate_errors as translate
from cloud_tasks_azure.credentials import credential_error

__all__ = ["BEING_DELETED", "code_of", "first_line", "is_lost", "translate_errors"]

BEING_DELETED = "QueueBeingDeleted"
_LOST = ("MessageNotFound", "PopReceiptMismatch")
_POLICY = (
    "show the required roles with: cloud-tasks doctor --policy; or the account's network rules exclude this machine"
)
_DELETING = "Azure refuses the name of a deleted queue for half a minute or longer: repeat the command"
_NO_KEYS = "run: az login, and set azure.storage_account instead of a connection string"

_RULES = (
    ErrorRule(kind=ErrorKind.NOT_FOUND, code="(Queue|Container|Blob|Resource)NotFound"),
    ErrorRule(kind=ErrorKind.TRANSIENT, code="(Queue|Container)BeingDeleted", hint=_DELETING),
    ErrorRule(
        kind=ErrorKind.TRANSIENT, code="InternalError|OperationTimedOut|ServerBusy|AccountBeingCreated|DecodeError"
    ),
    ErrorRule(kind=ErrorKind.PERMANENT, code="KeyBasedAuthenticationNotPermitted", hint=_NO_KEYS),
    ErrorRule(
        kind=ErrorKind.PERMANENT,
        code=r"Authorization\w*Mismatch|AuthorizationFailure|InsufficientAccountPermissions",
        hint=_POLICY,
    ),
)
_UNANSWERED = (ErrorRule(kind=ErrorKind.TRANSIENT),)
"""No connection, a timeout, or an invalid response, as from a proxy."""


@contextmanager
def translate_errors(action: str) -> Iterator[None]:
    """Translate SDK exceptions into a `ProviderError` whose message starts with ``action``."""
    try:
        with translate(action, _answered, _RULES), translate(action, _unanswered, _UNANSWERED):
            yield
    except sdk.ClientAuthenticationError as error:
        raise credential_error(error, action) from error


def code_of(error: BaseException | None) -> str:
    """Return the service's error code, or the exception's class name."""
    code = getattr(error, "error_code", None)
    # The SDK converts known codes to an enum.
    return str(getattr(code, "value", code) or type(error).__name__)


def is_lost(error: ProviderError) -> bool:
    """Return whether a call failed because the lease expired, or the message or queue no longer exists."""
    return isinstance(error, NotFoundError) or code_of(error.__cause__) in _LOST


def first_line(error: BaseException) -> str:
    """Return the first line of an error message without queries of URLs and keys."""
    lines = str(error).strip().splitlines()
    return re.sub(r"(\?|Shared\w*=)\S*", "", lines[0] if lines else "")[:300].rstrip(". ")


def _answered(error: Exception) -> Problem | None:
    if not isinstance(error, sdk.HttpResponseError):
        return None
    problem = Problem(code=code_of(error), message=first_line(error), status=error.status_code or 0)
    is_sign_in = isinstance(error, sdk.ClientAuthenticationError) and matching_rule(problem, _RULES) is None
    return None if is_sign_in else problem


def _unanswered(error: Exception) -> Problem | None:
    is_one = isinstance(error, sdk.AzureError) and not isinstance(error, sdk.HttpResponseError)
    return Problem(code=type(error).__name__, message=first_line(error)) if is_one else None
