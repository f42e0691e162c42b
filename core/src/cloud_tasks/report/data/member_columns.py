"""Columns for the members of objects in a table: ``result.loss``, ``data.model.layers``.

The rows are read twice: once for the names, once for the values. Invariants, each with a test:

1. Two members never share a column: a name that is not a plain word is quoted as JSON.
2. There are at most `MAX_MEMBERS` columns for each expanded one, in the order in which the rows name them; any other
   member, and what lies deeper than `MAX_DEPTH`, is in the JSON of the expanded column only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

__all__ = ["MAX_DEPTH", "MAX_MEMBERS", "MemberColumns"]

MAX_MEMBERS = 200
MAX_DEPTH = 5
"""Levels of nested objects that become columns."""

_PLAIN = re.compile(r"\w[\w-]*")

_Path = tuple[str, ...]


@attrs.frozen
class MemberColumns:
    """The columns of the members of some columns' objects."""

    paths: tuple[_Path, ...]
    """The expanded column, then the keys down to a member."""

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], expanded: Sequence[str]) -> MemberColumns:
        """Return the columns for all rows; reads none if no column is expanded."""
        found: dict[str, dict[_Path, None]] = {name: {} for name in expanded}
        for row in rows if expanded else ():
            for name, known in found.items():
                if len(known) < MAX_MEMBERS and isinstance(value := row[name], dict):
                    for path in _members(value, (name,)):
                        if len(known) >= MAX_MEMBERS:
                            break
                        known.setdefault(path)
        return cls(tuple(path for known in found.values() for path in known))

    @property
    def names(self) -> list[str]:
        """The headings."""
        return [".".join((path[0], *map(_name, path[1:]))) for path in self.paths]

    def values(self, row: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the value of each column in a row; None where it has none."""
        for path in self.paths:
            value: Any = row
            for key in path:
                value = value.get(key) if isinstance(value, Mapping) else None
            # A member that is an object in this row has columns of its own.
            yield None if isinstance(value, dict) and value and len(path) <= MAX_DEPTH else value


def _members(value: Mapping[str, Any], path: _Path) -> Iterator[_Path]:
    for key, member in value.items():
        if isinstance(member, dict) and member and len(path) < MAX_DEPTH:
            yield from _members(member, (*path, key))
        else:
            yield (*path, key)


def _name(key: str) -> str:
    return key if _PLAIN.fullmatch(key) else json.dumps(key)
