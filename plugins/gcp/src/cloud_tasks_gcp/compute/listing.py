"""Listings of instances and disks over all zones, with one call per page.

Invariant, with a test: a listing is complete for every zone that the caller requires: it raises if one of them did not
answer. Other zones that did not answer are returned with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from google.cloud import compute_v1 as sdk

from cloud_tasks.errors import ProviderError
from cloud_tasks_gcp.compute.clients import ANSWER_TIMEOUT, Clients, ClientSet, read_retry
from cloud_tasks_gcp.compute.compute_errors import translate_errors
from cloud_tasks_gcp.compute.to_model import last_part

__all__ = ["Required", "all_disks", "all_instances", "silent_zones", "zone_disks"]

_PAGE = 500
"""Maximum page size ("maxResults")."""
_OPTIONS = {"max_results": _PAGE, "return_partial_success": True}
"""Without partial success, a zone that does not answer fails the whole call ("returnPartialSuccess")."""

_HARMLESS = ("", "NO_RESULTS_ON_PAGE")
"""Warning codes of an empty zone."""

Required: TypeAlias = Callable[[str], bool]
"""Whether a zone, or a region, has to answer."""


def all_instances(
    clients: Clients, project: str, filter: str, required: Required
) -> tuple[tuple[sdk.Instance, ...], frozenset[str]]:
    """Return every matching instance, and the other zones that did not answer. Raise if a required one did not."""

    def pages(clients: ClientSet) -> Iterable[Any]:
        request = sdk.AggregatedListInstancesRequest(project=project, filter=filter, **_OPTIONS)
        return clients.instances.aggregated_list(request=request, retry=read_retry(), timeout=ANSWER_TIMEOUT).pages

    scopes, silent = _scopes(clients, pages, "list instances", required)
    return tuple(instance for scope in scopes for instance in scope.instances), silent


def all_disks(
    clients: Clients, project: str, filter: str, required: Required
) -> tuple[tuple[sdk.Disk, ...], frozenset[str]]:
    """Return every matching disk, and the other zones that did not answer. Raise if a required one did not."""

    def pages(clients: ClientSet) -> Iterable[Any]:
        request = sdk.AggregatedListDisksRequest(project=project, filter=filter, **_OPTIONS)
        return clients.disks.aggregated_list(request=request, retry=read_retry(), timeout=ANSWER_TIMEOUT).pages

    scopes, silent = _scopes(clients, pages, "list disks", required)
    return tuple(disk for scope in scopes for disk in scope.disks), silent


def zone_disks(clients: Clients, project: str, zone: str, filter: str) -> tuple[sdk.Disk, ...]:
    """Return every matching disk of one zone."""
    request = sdk.ListDisksRequest(project=project, zone=zone, filter=filter, max_results=_PAGE)
    with clients.acquire() as one, translate_errors(f"list the disks of {zone}"):
        return tuple(one.disks.list(request=request, retry=read_retry(), timeout=ANSWER_TIMEOUT))


def _scopes(clients: Clients, pages: Any, what: str, required: Required) -> tuple[list[Any], frozenset[str]]:
    """Return the zones of all pages, and those that did not answer: a later page may report a missing zone."""
    scopes: list[Any] = []
    silent: set[str] = set()
    with clients.acquire() as one, translate_errors(what):
        for page in pages(one):
            silent |= silent_zones(page, what, required)
            scopes.extend(page.items.values())
    return scopes, frozenset(silent)


def silent_zones(page: Any, what: str, required: Required) -> set[str]:
    """Return the zones that a page of an aggregated list reports as missing. Raise if a required one is."""
    reasons = dict.fromkeys(page.unreachables, "")
    for name, scope in page.items.items():
        if scope.warning.code not in _HARMLESS:
            reasons[name] = f": {scope.warning.message or scope.warning.code}"
    missing = [f"{name}{reason}" for name, reason in reasons.items() if required(last_part(name))]
    if page.warning.code not in _HARMLESS and not reasons:
        # It may be about any zone.
        missing.append(page.warning.message or page.warning.code)
    if missing:
        raise ProviderError(f"cannot {what}: no answer from {', '.join(missing)}", transient=True)
    return {last_part(name) for name in reasons}
