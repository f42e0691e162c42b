"""Filters and pages of the fake's listings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gce_records import ApiError

__all__ = ["matches", "page"]

_TERM = re.compile(r'^(?P<field>[a-zA-Z][\w.-]*)\s*(?P<relation>!=|=|:)\s*"?(?P<value>[^"]*)"?$')


def matches(filter: str, resource: Mapping[str, Any]) -> bool:
    """Return whether a resource passes a filter: terms ``labels.key="value"``, ``labels.key:*``, joined by ``AND``."""
    for term in filter.split(" AND ") if filter else ():
        match = _TERM.match(term.strip().strip("()"))
        if match is None:
            raise ApiError(400, "invalid", f"Invalid value for field 'filter': '{filter}'. Invalid list filter.")
        found = _value(resource, match["field"])
        passed = found is not None if match["value"] == "*" else found == match["value"]
        if passed is (match["relation"] == "!="):
            return False
    return True


def _value(resource: Mapping[str, Any], field: str) -> str | None:
    first, _, rest = field.partition(".")
    value = resource.get(first)
    if rest:
        value = value.get(rest) if isinstance(value, Mapping) else None
    return None if value is None else str(value)


def page(resources: Sequence[Any], query: Mapping[str, str], max_size: int) -> tuple[Sequence[Any], str]:
    """Return the requested page and the token of the next one (empty on the last page)."""
    size = min(int(query.get("maxResults", max_size)), max_size)
    start = int(query.get("pageToken") or 0)
    rest = start + size
    return resources[start:rest], str(rest) if rest < len(resources) else ""
