"""The gate for HTTP responses that are not Google's, but those of a proxy, a login page or another server.

Invariant, with a test: whatever a server answers, a call succeeds only if the answer is one of Google's API. By itself,
the SDK takes a list, a text and an object without fields for an empty resource: no instance, no label, no quota.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import requests

__all__ = ["PROXY", "InvalidResponseError", "check_responses"]

PROXY = "check for a proxy between this machine and Google Cloud"
_WEB_PAGE = re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE)
_COMPUTE = "/compute/"
"""Part of every path of Compute Engine, whose answers all have the field ``kind``."""


class InvalidResponseError(requests.RequestException):
    """A response that cannot be read as one of Google's; transient."""


def check_responses(session: requests.Session) -> None:
    """Let a session check every response."""
    session.hooks["response"].append(_check)


def _check(response: requests.Response, **_: Any) -> None:
    if response.is_redirect:
        return  # it is followed
    if response.status_code == HTTPStatus.NO_CONTENT and response.request.method == "DELETE":
        return  # Cloud Storage's answer to a deletion
    parts = urlsplit(response.url)
    problem = _problem_of(response.status_code, response.content, needs_kind=_COMPUTE in parts.path)
    if problem:
        raise InvalidResponseError(f"invalid response from {parts.netloc}: {problem}")


def _problem_of(status: int, body: bytes, *, needs_kind: bool) -> str:
    """Return why a body is not one of Google's; empty if it may be."""
    may_pass = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    if _WEB_PAGE.match(body):
        return "" if may_pass else "a web page"
    try:
        content = json.loads(body)
    except ValueError:
        return "" if may_pass else "not JSON"
    if not isinstance(content, Mapping):
        return "not a JSON object"
    if status >= HTTPStatus.MULTIPLE_CHOICES:
        is_error = isinstance(content.get("error", {} if may_pass else None), Mapping)
        return "" if is_error else f"HTTP status {status} without an error"
    return "kind is missing" if needs_kind and not content.get("kind") else ""
