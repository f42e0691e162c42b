"""IAM policy documents, compared by what they allow and deny.

Sources: "IAM JSON policy elements reference" and "Grammar of the IAM JSON policy language", IAM user guide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

__all__ = ["covers", "merged", "union"]

_VERSION = "2012-10-17"


def union(documents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a document with the statements of all these."""
    return {"Version": _VERSION, "Statement": [statement for each in documents for statement in _statements(each)]}


def covers(document: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether a document has every statement of another one, whatever their form, order and names are."""
    return not list(_lacking(document, wanted))


def merged(document: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return a document with the statements that it lacks. A name that it uses is left out: names are unique."""
    used = {each.get("Sid") for each in _statements(document)}
    added = [
        {key: value for key, value in each.items() if key != "Sid" or value not in used}
        for each in _lacking(document, wanted)
    ]
    return json.dumps(union([document, {"Statement": added}]))


def _lacking(document: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for each in _statements(wanted):
        if not any(_includes(found, each) for found in _statements(document)):
            yield each


def _statements(document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found: Any = document.get("Statement", ())
    return [found] if isinstance(found, Mapping) else list(found)


def _includes(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether one statement applies wherever the other one does."""
    return (
        found.get("Effect") == wanted.get("Effect")
        and _condition(found) == _condition(wanted)
        and _matches(found, wanted, "Action", re.IGNORECASE)
        and _matches(found, wanted, "Resource")
        and _principals(found) >= _principals(wanted)
    )


def _matches(found: Mapping[str, Any], wanted: Mapping[str, Any], element: str, flags: int = 0) -> bool:
    """Return whether patterns cover others: those that they match as text, in which ``*`` stands for any."""
    patterns = [re.escape(each).replace(r"\*", ".*").replace(r"\?", "[^*]") for each in _texts(found.get(element))]
    return all(any(re.fullmatch(each, text, flags) for each in patterns) for text in _texts(wanted.get(element)))


def _condition(statement: Mapping[str, Any]) -> Mapping[tuple[str, str], frozenset[str]]:
    return {
        (operator, key.lower()): _texts(value)
        for operator, values in statement.get("Condition", {}).items()
        for key, value in values.items()
    }


def _principals(statement: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    found = statement.get("Principal", {})
    kinds = found if isinstance(found, Mapping) else {"AWS": found}
    return frozenset((kind, text) for kind, value in kinds.items() for text in _texts(value))


def _texts(value: Any) -> frozenset[str]:
    """Return the values of an element, which may be one or a list; booleans and numbers are compared as text."""
    values = [] if value is None else value if isinstance(value, (list, tuple)) else [value]
    return frozenset(str(each).lower() if isinstance(each, bool) else str(each) for each in values)
