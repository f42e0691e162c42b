"""Retry rules: which failed attempts are retried, as configured and as applied by the worker.

Imports the standard library only: the supervisor of every worker loads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["FAILURES", "RetryRule", "format_rules", "parse_rules"]

FAILURES = ("exit", "exception", "timeout")
"""The kinds of failure of a rule."""


class RetryRule(NamedTuple):
    """A retry rule; the first one that matches a failure decides. `from_plain` validates user input."""

    on: str
    """One of `FAILURES`."""
    codes: tuple[int, ...] = ()
    """For ``exit``: the exit codes that match (137 also for SIGKILL); empty for all."""
    types: tuple[str, ...] = ()
    """For ``exception``: names of the classes that match, subclasses included; empty for all."""
    attempts: int | None = None
    """Maximum number of attempts; None for ``max_attempts``."""

    @classmethod
    def from_plain(cls, entry: object) -> RetryRule:
        """Return the rule of a mapping from JSON or YAML.

        Raises:
            ValueError: A key is unknown, missing or invalid.
        """
        if not isinstance(entry, Mapping):
            raise ValueError(f"expected a mapping, got {_shown(entry)}")
        if unknown := [str(key) for key in entry if key not in cls._fields]:
            raise ValueError(f"unknown key: {', '.join(sorted(unknown))}")
        if entry.get("on") is None:
            raise ValueError("on is missing")
        if entry["on"] not in FAILURES:
            raise ValueError(f"{_shown(entry['on'])} is not one of {', '.join(FAILURES)}")
        codes = tuple(_whole("codes", code) for code in _items("codes", entry.get("codes")))
        types = tuple(_name(item) for item in _items("types", entry.get("types")))
        if codes and entry["on"] != "exit":
            raise ValueError('"codes" is valid with "on: exit" only')
        if types and entry["on"] != "exception":
            raise ValueError('"types" is valid with "on: exception" only')
        attempts = None if entry.get("attempts") is None else _whole("attempts", entry["attempts"])
        if attempts is not None and attempts < 1:
            raise ValueError(f"attempts: {attempts} is below 1")
        return cls(on=entry["on"], codes=codes, types=types, attempts=attempts)

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON Schema of the argument of `from_plain`."""
        text: dict[str, Any] = {"type": "string"}
        names = [text, {"type": "array", "items": text}, {"type": "null"}]
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "on": {"type": "string", "enum": list(FAILURES)},
                "codes": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]},
                "types": {"anyOf": names},
                "attempts": {"type": ["integer", "null"], "minimum": 1},
            },
            "required": ["on"],
        }


def parse_rules(text: str) -> tuple[RetryRule, ...]:
    """Return the rules of a JSON list.

    Raises:
        ValueError: Invalid JSON or an invalid rule, with its number.
    """
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(entries, list):
        raise ValueError("expected a list of rules")
    rules = []
    for number, entry in enumerate(entries, start=1):
        try:
            rules.append(RetryRule.from_plain(entry))
        except ValueError as error:
            raise ValueError(f"rule {number}: {error}") from error
    return tuple(rules)


def format_rules(rules: Iterable[RetryRule]) -> str:
    """Return the rules as JSON, for `parse_rules`."""
    return json.dumps([rule._asdict() for rule in rules])


def _items(key: str, value: object) -> Sequence[object]:
    if value is None:
        return ()
    if isinstance(value, str) and key == "types":
        return value.replace(",", " ").split()
    if not isinstance(value, list | tuple):
        raise ValueError(f"{key}: expected a list, got {_shown(value)}")
    return value


def _whole(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{key}: expected a whole number, got {_shown(value)}")
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"types: expected the name of an exception class, got {_shown(value)}")
    return value.strip()


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    return "a mapping" if isinstance(value, Mapping) else "a list" if isinstance(value, list | tuple) else str(value)
