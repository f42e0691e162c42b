"""The gate for responses that are not AWS's, but those of a proxy, a login page or another server.

Invariant, with a test: whatever a server answers, a call returns a mapping or raises an exception of botocore. By
itself, botocore takes a web page for an empty response, and raises what its parsers stumble over.
"""

from __future__ import annotations

import json
import re
import threading
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.exceptions import HTTPClientError
from botocore.parsers import ResponseParserFactory

__all__ = ["InvalidResponseError", "check_responses"]

_FIRST_ERROR = 301
"""Lowest status that botocore reads as an error."""
_FIRST_RETRIED = 500
"""Lowest status after which botocore repeats the call, whatever the response contains."""
_REGION_HEADER = "x-amz-bucket-region"
"""Header of the redirections of S3."""
_WEB_PAGE = re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE)


class InvalidResponseError(HTTPClientError):
    """A response that cannot be read as one of AWS; transient, as other errors of a connection."""

    fmt = "invalid response from {host}: {error}"


def check_responses(session: botocore.session.Session) -> None:
    """Let the clients of a session, those that get its credentials included, check every response."""
    current = threading.local()

    def note_host(**event: Any) -> None:
        # Response and parser run in the same thread, without the URL.
        current.host = urlsplit(event["request"].url).netloc

    def check(**event: Any) -> None:
        response = event["response_dict"]
        status, body = response["status_code"], response["body"]
        if isinstance(body, bytes):  # otherwise it is streamed
            operation = event["operation_model"]
            # The only response of S3 that is JSON.
            is_policy = operation.name == "GetBucketPolicy" and status < _FIRST_ERROR
            problem = _problem_of("json" if is_policy else operation.service_model.resolved_protocol, status, body)
            if _FIRST_ERROR <= status < 400 and b"<Error" not in body and _REGION_HEADER not in response["headers"]:
                # botocore would ask for the region of the bucket, and get the same response, without end.
                problem = "a redirection"
            if problem:
                raise InvalidResponseError(host=current.host, error=problem)

    session.register("before-send", note_host)
    session.register("before-parse", check)
    session.register_component("response_parser_factory", _Parsers(current))


def _problem_of(protocol: str, status: int, body: bytes) -> str:
    """Return why a body is not one of AWS; empty if it may be."""
    # botocore makes an unreadable response of S3 a server error, and repeats the call for a minute.
    is_s3 = protocol == "rest-xml"
    if (is_s3 or status < _FIRST_RETRIED) and _WEB_PAGE.match(body):
        return "a web page"
    if not body or not (is_s3 or status < _FIRST_ERROR):
        return ""
    if "json" not in protocol:
        return "" if body.lstrip().startswith(b"<") else "not XML"
    try:
        return "" if isinstance(json.loads(body), dict) else "not a JSON object"
    except ValueError:
        return "not JSON"


class _Parsers(ResponseParserFactory):
    def __init__(self, current: threading.local) -> None:
        super().__init__()
        self._current = current

    def create_parser(self, protocol_name: str) -> Any:
        has_codes = protocol_name in ("ec2", "json", "query")
        return _Parser(super().create_parser(protocol_name), self._current.host, has_codes=has_codes)


class _Parser:
    """A parser of botocore, checked.

    Args:
        has_codes: Whether every error has a code in its body: S3 has none where the call is HEAD.
    """

    def __init__(self, parser: Any, host: str, *, has_codes: bool) -> None:
        self._parser = parser
        self._host = host
        self._has_codes = has_codes

    def parse(self, response: dict[str, Any], shape: Any) -> dict[str, Any]:
        status = response["status_code"]
        try:
            found = _Response(self._parser.parse(response, shape), self._host)
        except Exception as error:
            raise InvalidResponseError(host=self._host, error=f"unreadable, HTTP status {status}") from error
        # botocore parses an error a second time, with the shape of its details.
        is_details = shape is not None and shape.metadata.get("exception", False)
        needs_code = self._has_codes and _FIRST_ERROR <= status < _FIRST_RETRIED and not is_details
        if needs_code and found.get("Error", {}).get("Code") in (None, "", str(status)):
            raise InvalidResponseError(host=self._host, error=f"HTTP status {status} without an error code")
        return found


class _Response(dict[str, Any]):
    """The fields of a response; reading one that it lacks raises `InvalidResponseError`."""

    def __init__(self, fields: dict[str, Any], host: str) -> None:
        super().__init__(fields)
        self._host = host

    def __missing__(self, name: str) -> Any:
        raise InvalidResponseError(host=self._host, error=f"{name} is missing")
