"""Complete listings of instances and disks over all zones, page by page, in one call per page.

Invariant, with a test: a listing that any zone is missing from raises; it is never shorter than the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.cloud import compute_v1 as sdk

from cloud_tasks.errors import ProviderError
from cloud_tasks_gcp.compute.clients import ANSWER_TIMEOUT, Clients, ClientSet, again
from cloud_tasks_gcp.compute.failures import mapped

__all__ = ["all_disks", "all_instances", "check_page"]

_PAGE = 500
"""The most that one page may hold ("maxResults")."""

_HARMLESS = ("", "NO_RESULTS_ON_PAGE")
"""The warning that an empty zone carries, beside none at all."""


def all_instances(clients: Clients, project: str, filter: str = "") -> tuple[sdk.Instance, ...]:
    """Every instance that the filter finds, in every zone. Raises `ProviderError` where one did not answer."""

    def pages(clients: ClientSet) -> Iterable[Any]:
        request = sdk.AggregatedListInstancesRequest(project=project, filter=filter, max_results=_PAGE)
        return clients.instances.aggregated_list(request=request, retry=again(), timeout=ANSWER_TIMEOUT).pages

    return tuple(instance for scope in _scopes(clients, pages, "list instances") for instance in scope.instances)


def all_disks(clients: Clients, project: str, filter: str) -> tuple[sdk.Disk, ...]:
    """Every disk that the filter finds, likewise."""

    def pages(clients: ClientSet) -> Iterable[Any]:
        request = sdk.AggregatedListDisksRequest(project=project, filter=filter, max_results=_PAGE)
        return clients.disks.aggregated_list(request=request, retry=again(), timeout=ANSWER_TIMEOUT).pages

    return tuple(disk for scope in _scopes(clients, pages, "list disks") for disk in scope.disks)


def _scopes(clients: Clients, pages: Any, what: str) -> Iterator[Any]:
    """The zones of all pages; read whole before the first is used, for a later page may tell of a missing one."""
    scopes: list[Any] = []
    with clients.one() as one, mapped(what):
        for page in pages(one):
            check_page(page, what)
            scopes.extend(page.items.values())
    yield from scopes


def check_page(page: Any, what: str) -> None:
    """Raise `ProviderError` where a page of an aggregated list says that a zone is missing from it."""
    if page.unreachables:
        raise ProviderError(f"cannot {what}: no answer from {', '.join(page.unreachables)}", transient=True)
    for name, scope in page.items.items():
        if scope.warning.code not in _HARMLESS:
            told = scope.warning.message or scope.warning.code
            raise ProviderError(f"cannot {what}: {name}: {told}", transient=True)
    if page.warning.code not in _HARMLESS:
        raise ProviderError(f"cannot {what}: {page.warning.message or page.warning.code}", transient=True)
