"""Complete listings of instances and disks over all zones, with one call per page.

Invariant, with a test: a partial listing (a zone did not answer) raises; no listing is ever shorter than the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.cloud import compute_v1 as sdk

from cloud_tasks.errors import ProviderError
from cloud_tasks_gcp.compute.clients import ANSWER_TIMEOUT, Clients, ClientSet, read_retry
from cloud_tasks_gcp.compute.compute_errors import translate_errors

__all__ = ["all_disks", "all_instances", "check_page"]

_PAGE = 500
"""Maximum page size ("maxResults")."""

_HARMLESS = ("", "NO_RESULTS_ON_PAGE")
"""Warning codes of an empty zone."""


def all_instances(clients: Clients, project: str, filter: str = "") -> tuple[sdk.Instance, ...]:
    """Return every matching instance of every zone. Raise `ProviderError` when a zone did not answer."""

    def pages(clients: ClientSet) -> Iterable[Any]:
        request = sdk.AggregatedListInstancesRequest(project=project, filter=filter, max_results=_PAGE)
        return clients.instances.aggregated_list(request=request, retry=read_retry(), timeout=ANSWER_TIMEOUT).pages

    return tuple(instance for scope in _scopes(clients, pages, "list instances") for instance in scope.instances)


def all_disks(clients: Clients, project: str, filter: str) -> tuple[sdk.Disk, ...]:
    """Return every matching disk of every zone. Raise `ProviderError` when a zone did not answer."""

    def pages(clients: ClientSet) -> Iterable[Any]:
        request = sdk.AggregatedListDisksRequest(project=project, filter=filter, max_results=_PAGE)
        return clients.disks.aggregated_list(request=request, retry=read_retry(), timeout=ANSWER_TIMEOUT).pages

    return tuple(disk for scope in _scopes(clients, pages, "list disks") for disk in scope.disks)


def _scopes(clients: Clients, pages: Any, what: str) -> Iterator[Any]:
    """Yield the zones of all pages, after reading all: a later page may report a missing zone."""
    scopes: list[Any] = []
    with clients.acquire() as one, translate_errors(what):
        for page in pages(one):
            check_page(page, what)
            scopes.extend(page.items.values())
    yield from scopes


def check_page(page: Any, what: str) -> None:
    """Raise `ProviderError` when a page of an aggregated list reports a missing zone."""
    if page.unreachables:
        raise ProviderError(f"cannot {what}: no answer from {', '.join(page.unreachables)}", transient=True)
    for name, scope in page.items.items():
        if scope.warning.code not in _HARMLESS:
            reason = scope.warning.message or scope.warning.code
            raise ProviderError(f"cannot {what}: {name}: {reason}", transient=True)
    if page.warning.code not in _HARMLESS:
        raise ProviderError(f"cannot {what}: {page.warning.message or page.warning.code}", transient=True)
