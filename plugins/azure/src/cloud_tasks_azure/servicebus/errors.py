"""Translation of Service Bus errors: transient, not found, lost lock, credentials or permanent.

Sources: the exceptions of azure-servicebus, and "Service Bus messaging exceptions" in the Azure documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from azure.core import exceptions as sdk
from azure.servicebus import exceptions as bus

from cloud_tasks.errors import CredentialsError, NotFoundError, ProviderError
from cloud_tasks_azure.credentials import LOGIN, credential_error

__all__ = ["LOST", "translate_errors"]

LOST = (bus.MessageLockLostError, bus.MessageAlreadySettled, bus.MessageNotFoundError)
"""Exceptions of a call for a message whose lock expired."""
_NOT_FOUND = (bus.MessagingEntityNotFoundError, sdk.ResourceNotFoundError)
_DENIED = (bus.ServiceBusAuthenticationError, bus.ServiceBusAuthorizationError)
_TRANSIENT = (
    bus.OperationTimeoutError,
    bus.ServiceBusCommunicationError,
    bus.ServiceBusConnectionError,
    bus.ServiceBusQuotaExceededError,
    bus.ServiceBusServerBusyError,
    sdk.ServiceRequestError,
    sdk.ServiceResponseError,
)


@contextmanager
def translate_errors(action: str) -> Iterator[None]:
    """Translate SDK exceptions into a `ProviderError` whose message starts with ``action``; `LOST` passes through."""
    try:
        yield
    except LOST:
        raise
    except (sdk.AzureError, ValueError) as error:
        raise _provider_error(action, error) from error


def _provider_error(action: str, error: Exception) -> ProviderError:
    text = f"{action}: {_line(error)}"
    if isinstance(error, _NOT_FOUND):
        return NotFoundError(text)
    if isinstance(error, sdk.ClientAuthenticationError):
        return credential_error(error, action)
    if isinstance(error, _DENIED):
        refused = isinstance(error, bus.ServiceBusAuthenticationError)
        error_class = CredentialsError if refused else ProviderError
        return error_class(f"{action}: Service Bus rejected the credentials", hint=LOGIN)
    status = error.status_code or 0 if isinstance(error, sdk.HttpResponseError) else 0
    return ProviderError(text, transient=isinstance(error, _TRANSIENT) or status >= 500 or status in (408, 429))


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return re.sub(r"(\?|Shared\w*=)\S*", "", lines[0] if lines else type(error).__name__)[:300].rstrip(". ")
