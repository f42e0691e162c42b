"""What the errors of Pub/Sub mean. No exception of the SDK leaves this package.

Invariants, each with a test:

1. Passing trouble is told apart from a mistake: the first is a transient `ProviderError`.
2. No text of the token server, which may quote credentials, is in a message.

Source: "Pub/Sub error codes" and "Exactly-once delivery" in the Pub/Sub documentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import google.auth.exceptions
from google.api_core import exceptions as api
from google.api_core.retry import Retry

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_gcp.explain import explain

__all__ = ["RETRY", "ack_verdicts", "calling", "is_passing"]

SERVICE = "pubsub.googleapis.com"
_PLUGIN = "Getting metadata from plugin failed"
"""How gRPC tells that google-auth could not get a token."""
_PASSING = (
    api.Aborted,
    api.Cancelled,
    api.DeadlineExceeded,
    api.InternalServerError,
    api.ServiceUnavailable,
    api.TooManyRequests,
    api.BadGateway,
    api.Unknown,
)
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


def is_passing(error: BaseException) -> bool:
    """Whether the same call may succeed a moment later."""
    return isinstance(error, _PASSING)


RETRY = Retry(predicate=is_passing, initial=0.1, maximum=5.0, multiplier=2.0, timeout=30.0)
"""For every call but a pull: all of them may be repeated, for delivery is at least once."""


@contextmanager
def calling(doing: str, project: str) -> Iterator[None]:
    """Turn what the SDK raises inside into a `ProviderError` that begins with ``doing``."""
    try:
        yield
    except api.RetryError as error:
        cause = error.cause
        if isinstance(cause, api.GoogleAPICallError):
            raise meaning(doing, cause, project) from error
        raise ProviderError(f"{doing}: no answer in time", transient=True) from error
    except api.GoogleAPICallError as error:
        raise meaning(doing, error, project) from error
    except (google.auth.exceptions.GoogleAuthError, api.GoogleAPIError) as error:
        raise ProviderError(f"{doing}: {type(error).__name__}", transient=True) from error


def meaning(doing: str, error: api.GoogleAPICallError, project: str) -> ProviderError:
    """The error of ours that says what an error of the SDK means."""
    text = str(error.message or "")
    if _PLUGIN in text:
        expired = "invalid_grant" in text or "RefreshError" in text
        return ProviderError(
            f"{doing}: Google's sign-in service did not give a token",
            transient=not expired,
            hint="run: gcloud auth application-default login; see: cloud-tasks doctor",
        )
    if isinstance(error, api.NotFound):
        return NotFoundError(f"{doing}: {_line(text)}")
    status = int(error.code or 0)
    why = explain(status, _answer(error, text), service=SERVICE, project=project)
    return ProviderError(f"{doing}: {why.message}", transient=why.transient or is_passing(error), hint=why.remedy)


def ack_verdicts(error: api.GoogleAPICallError) -> Mapping[str, str] | None:
    """What an exactly-once subscription says of single ack ids; None where the error concerns the whole call."""
    verdicts = {
        key: value
        for key, value in dict(error.metadata or {}).items()
        if value.startswith(("PERMANENT_FAILURE_", "TRANSIENT_FAILURE_"))
    }
    return verdicts or None


def _answer(error: api.GoogleAPICallError, text: str) -> Mapping[str, Any]:
    """The error as the JSON interface of the same service would tell it."""
    info = {"@type": _ERROR_INFO, "reason": error.reason, "metadata": dict(error.metadata or {})}
    return {"error": {"message": text, "details": [info] if error.reason else []}}


def _line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
