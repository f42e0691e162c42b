"""Description of a failed HTTP request of a storage library, from the exceptions of its HTTP client.

Invariant, with a test: one line, in which no URL has credentials.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from cloud_tasks.escape import terminal_line, without_credentials

__all__ = ["http_problem"]

_MAX_URL = 200


def http_problem(error: BaseException, place: str) -> str | None:
    """Return what went wrong; None if no HTTP client raised the error.

    Args:
        place: The URL that was asked for.
    """
    found: Any = error
    while found is not None and not type(found).__module__.startswith("aiohttp"):
        found = found.__cause__ or found.__context__
    if found is None:
        return None
    kind = type(found).__name__
    if kind == "TooManyRedirects":
        return f"too many redirects ({len(found.history)})"
    if kind == "NonHttpUrlRedirectClientError":
        return f"redirected to {_shown(found.args[0])}, which is not an HTTP address"
    if kind == "InvalidUrlRedirectClientError":
        return f"redirected to {_shown(found.args[0])}, which is not a valid address"
    if (status := getattr(found, "status", None)) is not None:
        asked = f" from {_shown(found.request_info.real_url)}, after a redirect" if found.history else ""
        return f"HTTP {status} {found.message}".rstrip() + asked
    host = getattr(found, "host", None)
    if host is None:
        return None
    reason = getattr(found, "strerror", None) or str(found)
    redirected = "" if _address_of(place) == (host, found.port) else ", after a redirect"
    return terminal_line(f"cannot connect to {host}:{found.port}{redirected}: {' '.join(reason.split())}")


def _address_of(url: str) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None, None


def _shown(url: object) -> str:
    text = without_credentials(terminal_line(" ".join(str(url).split())))
    return text if len(text) <= _MAX_URL else f"{text[:_MAX_URL]}…"
