"""Translation of Service Bus errors: transient, not found, lost lock, credentials or permanent.

Sources: the exceptions of azure-servicebus, and "Service Bus messaging exceptions" in the Azure documentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from azure.core import exceptions as sdk
from azure.servicebus import exceptions as bus

from cloud_tasks.plugin.kit import ErrorKind, ErrorRule, Problem
from cloud_tasks.plugin.kit import translate_errors as translate
from cloud_tasks_azure.credentials import LOGIN, credential_error
from cloud_tasks_azure.queue.queue_errors import first_line

__all__ = ["LOST", "translate_errors"]

LOST = (bus.MessageLockLostError, bus.MessageAlreadySettled, bus.MessageNotFoundError)
"""Exceptions of a call for a message whose lock expired."""
_RULES = (
    ErrorRule(kind=ErrorKind.NOT_FOUND, code="MessagingEntityNotFoundError|ResourceNotFoundError"),
    ErrorRule(kind=ErrorKind.CREDENTIALS, code="ServiceBusAuthenticationError", hint=LOGIN),
    ErrorRule(kind=ErrorKind.PERMANENT, code="ServiceBusAuthorizationError", hint=LOGIN),
    ErrorRule(
        kind=ErrorKind.TRANSIENT,
        code=r"OperationTimeoutError|ServiceBus(Communication|Connection|QuotaExceeded|ServerBusy)Error"
        r"|ServiceRe(quest|sponse)Error",
    ),
)


@contextmanager
def translate_errors(action: str) -> Iterator[None]:
    """Translate SDK exceptions into a `ProviderError` whose message starts with ``action``; `LOST` passes through."""
    try:
        with translate(action, _problem_of, _RULES):
            yield
    except sdk.ClientAuthenticationError as error:
        raise credential_error(error, action) from error


def _problem_of(error: Exception) -> Problem | None:
    passes = isinstance(error, (*LOST, sdk.ClientAuthenticationError))
    if passes or not isinstance(error, (sdk.AzureError, ValueError)):
        return None
    names = [each.__name__ for each in type(error).__mro__]
    status = error.status_code or 0 if isinstance(error, sdk.HttpResponseError) else 0
    # The text of refused credentials may contain them.
    is_secret = isinstance(error, (bus.ServiceBusAuthenticationError, bus.ServiceBusAuthorizationError))
    message = "Service Bus rejected the credentials" if is_secret else first_line(error)
    return Problem(code=names[0], message=message, status=status, also=tuple(names[1:]))
