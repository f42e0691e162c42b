"""Listings of instances and disks over all zones, with one call per page.

Invariant, with a test: a listing is complete for every zone that the caller requires: it raises if one of them did not
answer. Other zones that did not answer are returned with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from google.cloud import compute_v1 as sdk

from cloud_tasks.errors import ProviderError
from cloud_tasks_gcp.compute.clients import ANSWER_TIMEOUT, Clients, read_retry
from cloud_tasks_gcp.compute.compute_errors import translate_errors
from cloud_tasks_gcp.compute.to_model import last_part

__all__ = ["Required", "all_disks", "all_instances", "silent_zones", "zone_disks"]

_PAGE = 500
"""Maximum page size ("maxResults")."""

_HARMLESS = ("", "NO_RESULTS_ON_PAGE", "DEPRECATED_RESOURCE_USED", "DEPRECATED_TYPE_USED")
"""Codes of warnings that leave a list complete."""

Required: TypeAlias = Callable[[str], bool]
"""Whether a zone, or a region, has to answer."""


def all_instances(
    clients: Clients, project: str, filter: str, required: Required
) -> tuple[tuple[sdk.Instance, ...], frozenset[str]]:
    """Return every matching instance, and the other zones that did not answer. Raise if a required one did not."""
    pages, silent = _pages(clients, project, sdk.InstanceAggregatedList, "instances", filter, required)
    return tuple(each for page in pages for scope in page.items.values() for each in scope.instances), silent


def all_disks(
    clients: Clients, project: str, filter: str, required: Required
) -> tuple[tuple[sdk.Disk, ...], frozenset[str]]:
    """Return every matching disk, and the other zones that did not answer. Raise if a required one did not."""
    pages, silent = _pages(clients, project, sdk.DiskAggregatedList, "disks", filter, required)
    return tuple(each for page in pages for scope in page.items.values() for each in scope.disks), silent


def zone_disks(clients: Clients, project: str, zone: str, filter: str) -> tuple[sdk.Disk, ...]:
    """Return every matching disk of one zone."""
    request = sdk.ListDisksRequest(project=project, zone=zone, filter=filter, max_results=_PAGE)
    with clients.acquire() as one, translate_errors(f"list the disks of {zone}"):
        return tuple(one.disks.list(request=request, retry=read_retry(), timeout=ANSWER_TIMEOUT))


def _pages(
    clients: Clients, project: str, kind: Any, resources: str, filter: str, required: Required
) -> tuple[list[Any], frozenset[str]]:
    """Return all pages, and the zones that did not answer: a later page may report a missing zone.

    Without partial success, a zone that does not answer fails the whole call; requests of the SDK lack the parameter.
    """
    what = f"list {resources}"
    query = {"maxResults": str(_PAGE), "returnPartialSuccess": "true", **({"filter": filter} if filter else {})}
    pages: list[Any] = []
    silent: set[str] = set()
    with clients.acquire() as one, translate_errors(what):
        while not pages or pages[-1].next_page_token:
            token = {"pageToken": pages[-1].next_page_token} if pages else {}
            try:
                answer = one.rest.get(f"compute/v1/projects/{project}/aggregated/{resources}", **query, **token)
            except ProviderError as error:
                message = f"cannot {what}: {error.message}"
                raise type(error)(message, transient=error.transient, hint=error.hint) from error
            pages.append(kind.from_json(json.dumps(answer), ignore_unknown_fields=True))
            silent |= silent_zones(pages[-1], what, required)
    return pages, frozenset(silent)


def silent_zones(page: Any, what: str, required: Required) -> set[str]:
    """Return the zones that a page of an aggregated list reports as missing. Raise if a required one is."""
    reasons = dict.fromkeys(page.unreachables, "")
    for name, scope in page.items.items():
        if scope.warning.code not in _HARMLESS:
            reasons[name] = f": {scope.warning.message or scope.warning.code}"
    missing = [f"{name}{reason}" for name, reason in reasons.items() if required(last_part(name))]
    if missing:
        raise ProviderError(f"cannot {what}: no answer from {', '.join(missing)}", transient=True)
    if page.warning.code not in _HARMLESS and not reasons:
        # It may be about any zone.
        raise ProviderError(f"cannot {what}: {page.warning.message or page.warning.code}", transient=True)
    return {last_part(name) for name in reasons}
