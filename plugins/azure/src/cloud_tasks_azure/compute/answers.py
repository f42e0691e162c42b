"""What a response of Resource Manager looks like: a proxy answers too, with a page or an empty object and status 200.

Source: the Resource Provider Contract, in Azure/azure-resource-manager-rpc. A path of pairs ends with the name of a
resource, one with a further part is a listing; a creation is answered with the resource, an operation that continues
with the address to ask, an error with a code.

Invariant, with a test: an answer of another is a transient error, never a fact about resources.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from azure.core.exceptions import DecodeError
from azure.core.pipeline import PipelineRequest, PipelineResponse, policies
from azure.core.rest import HttpRequest, HttpResponse

__all__ = ["OwnAnswers"]

_RESOURCE = {"id", "namespace", "properties"}
"""Keys of which a resource, or the description of a provider, has at least one."""
_PENDING = ("Azure-AsyncOperation", "Location")
_LISTED_AS_ARRAY = "versions"
"""The versions of an image are listed in an array, without pages."""


class OwnAnswers(policies.HTTPPolicy[HttpRequest, HttpResponse]):
    """Raises `DecodeError` for a response that is not Resource Manager's."""

    def send(self, request: PipelineRequest[HttpRequest]) -> PipelineResponse[HttpRequest, HttpResponse]:
        # A redirection changes the request.
        method, path = request.http_request.method, urlsplit(request.http_request.url).path
        response = self.next.send(request)
        # The response that begins an operation is not read yet.
        response.http_response.read()
        if not _is_own(method, path.strip("/").split("/"), response.http_response):
            raise DecodeError("not a response of Resource Manager")
        return response


def _is_own(method: str, parts: list[str], response: HttpResponse) -> bool:
    status = response.status_code
    if method == "HEAD" or status == 204:
        return method != "PUT"
    if status == 202:
        return any(name in response.headers for name in _PENDING)
    if status == 404:
        return bool(_error_code(response))
    if status >= 400:
        return True
    if status not in (200, 201):
        return False
    if method == "DELETE" and not response.text().strip():
        return True
    is_result = parts[0] != "subscriptions" or parts[-2].lower().startswith("operation")
    if method == "POST" or is_result:
        return True
    content = _json(response)
    if len(parts) % 2 == 0:
        return isinstance(content, dict) and not _RESOURCE.isdisjoint(content)
    if parts[-1].lower() == _LISTED_AS_ARRAY:
        return isinstance(content, list)
    return isinstance(content, dict) and isinstance(content.get("value"), list)


def _error_code(response: HttpResponse) -> Any:
    content = _json(response)
    error = content.get("error", content) if isinstance(content, dict) else None
    return error.get("code") if isinstance(error, Mapping) else None


def _json(response: HttpResponse) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
