"""Translation of Pub/Sub errors. No SDK exception leaves this package.

Invariants, each with a test:

1. Transient errors are distinguished from permanent ones: the former become a transient `ProviderError`.
2. No text of the token server, which may quote credentials, is in a message.

Source: "Pub/Sub error codes" and "Exactly-once delivery" in the Pub/Sub documentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import google.auth.exceptions
from google.api_core import exceptions as api
from google.api_core.retry import Retry

from cloud_tasks.errors import CredentialsError, ProviderError
from cloud_tasks_gcp.api_errors import LOGIN, api_error
from cloud_tasks_gcp.renewed_credentials import forget_tokens

__all__ = ["RETRY", "ack_failures", "is_transient", "to_provider_error", "translate_errors"]

SERVICE = "pubsub.googleapis.com"
_TOKEN_FAILURE = "Getting metadata from plugin failed"
"""Start of gRPC's message when google-auth cannot get a token."""
_TRANSIENT_ERRORS = (
    api.Aborted,
    api.Cancelled,
    api.DeadlineExceeded,
    api.InternalServerError,
    api.ServiceUnavailable,
    api.TooManyRequests,
    api.BadGateway,
    api.Unknown,
)
_LOGIN = f"{LOGIN}; see: cloud-tasks doctor"
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


def is_transient(error: BaseException) -> bool:
    """Return whether the same call may succeed later."""
    return isinstance(error, _TRANSIENT_ERRORS)


RETRY = Retry(predicate=is_transient, initial=0.1, maximum=5.0, multiplier=2.0, timeout=30.0)
"""Retry policy of all calls but pulls: each may be repeated, as delivery is at least once."""


@contextmanager
def translate_errors(doing: str, project: str) -> Iterator[None]:
    """Translate SDK exceptions into `ProviderError` with the prefix ``doing``."""
    try:
        yield
    except api.RetryError as error:
        cause = error.cause
        if isinstance(cause, api.GoogleAPICallError):
            raise to_provider_error(doing, cause, project) from error
        raise ProviderError(f"{doing}: timed out", transient=True) from error
    except api.GoogleAPICallError as error:
        raise to_provider_error(doing, error, project) from error
    except google.auth.exceptions.RefreshError as error:
        raise CredentialsError(f"{doing}: the credentials have expired or were revoked", hint=_LOGIN) from error
    except (google.auth.exceptions.GoogleAuthError, api.GoogleAPIError) as error:
        raise ProviderError(f"{doing}: {type(error).__name__}", transient=True) from error


def to_provider_error(doing: str, error: api.GoogleAPICallError, project: str) -> ProviderError:
    """Return the `ProviderError` for an SDK error."""
    text = str(error.message or "")
    if _TOKEN_FAILURE in text:
        message, hint = f"{doing}: Google's sign-in service issued no token", _LOGIN
        if any(each in text for each in ("invalid_grant", "RefreshError", "Reauthentication")):
            return CredentialsError(message, hint=hint)
        return ProviderError(message, transient=True, hint=hint)
    info = {"@type": _ERROR_INFO, "reason": error.reason, "metadata": dict(error.metadata or {})}
    answer = {"error": {"message": text, "details": [info] if error.reason else []}}
    found = api_error(int(error.code or 0), answer, service=SERVICE, project=project)
    if isinstance(found, CredentialsError):
        forget_tokens()
    return type(found)(f"{doing}: {found.message}", transient=found.transient or is_transient(error), hint=found.hint)


def ack_failures(error: api.GoogleAPICallError) -> Mapping[str, str] | None:
    """Return the failure of each ack id, as reported by an exactly-once subscription; None when the error concerns the
    whole call."""
    failures = {
        key: value
        for key, value in dict(error.metadata or {}).items()
        if value.startswith(("PERMANENT_FAILURE_", "TRANSIENT_FAILURE_"))
    }
    return failures or None
