"""Senders of one text to one URL: JSON by HTTP, or a service of Apprise.

Invariants, each with a test:

1. A failure contains no part of the URL, and nothing of a server's response except its HTTP status.
2. Redirects are not followed: the text is for the given URL only.
"""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from cloud_tasks.errors import InputError
from cloud_tasks_notify.address import is_webhook, load_service

if TYPE_CHECKING:
    import apprise

__all__ = ["Failure", "Sender", "make_sender"]

_TIMEOUT = 10.0
"""Timeout of a request in seconds."""
_TRANSIENT = (408, 425, 429)
"""Client errors worth a retry: request timeout (RFC 9110), too early (RFC 8470), too many requests (RFC 6585)."""


@attrs.frozen(kw_only=True)
class Failure:
    """Reason why a text was not delivered."""

    reason: str
    transient: bool
    retry_after: float = 0.0
    """Minimum delay in seconds requested by the server."""


Sender = Callable[[str], Failure | None]
"""Function that sends one text and returns None on success."""


def make_sender(address: str, *, field: str) -> Sender:
    """Return the sender for a URL.

    Args:
        field: Key of the text in the JSON object posted to a webhook.

    Raises:
        InputError: Apprise has no such service, or the URL is incomplete.
    """
    if is_webhook(address):
        return lambda text: _post(address, json.dumps({field: text}).encode())
    service = load_service(address)
    if service is None:
        raise InputError("webhook.url: not a valid Apprise URL", hint="see https://appriseit.com/services/")
    return lambda text: _notify(service, text)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Handler that treats every redirect as an error."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def _post(address: str, body: bytes) -> Failure | None:
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "cloud-tasks"}
    request = urllib.request.Request(address, data=body, headers=headers, method="POST")
    try:
        with _opener.open(request, timeout=_TIMEOUT):
            return None
    except urllib.error.HTTPError as error:
        with error:
            after = error.headers.get("Retry-After", "") if error.headers else ""
            return _refused(error.code, retry_after=float(after) if after.isdigit() else 0.0)
    except (OSError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        # Only texts of system errors are known to contain no part of the URL.
        known = cause.strerror if isinstance(cause, OSError) and cause.strerror else type(cause).__name__
        return Failure(reason=str(known), transient=True)
    except ValueError as error:
        return Failure(reason=type(error).__name__, transient=False)


def _refused(status: int, *, retry_after: float = 0.0) -> Failure:
    transient = status >= 500 or status in _TRANSIENT
    return Failure(reason=f"HTTP {status}", transient=transient, retry_after=retry_after)


def _notify(service: apprise.Apprise, text: str) -> Failure | None:
    import apprise

    try:
        result = service.notify(text, body_format=apprise.NotifyFormat.TEXT)
    except Exception as error:  # services raise arbitrary exceptions
        return Failure(reason=type(error).__name__, transient=True)
    if result:
        return None
    # Services report the reason in their log only, as "error=404". The rest of the log may contain secrets.
    found = re.findall(r"\berror=([1-5]\d\d)\b", " ".join(entry.message for entry in result.logs()))
    return _refused(int(found[-1])) if found else Failure(reason="the service did not accept it", transient=True)
