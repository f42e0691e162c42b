"""Checks of single values. Each knows its part of the JSON Schema; each message reads well after ``section.key: ``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["EachAbove", "Matches", "OneOf", "Patterns"]


@attrs.frozen
class EachAbove:
    """A mapping whose values are numbers above a bound."""

    bound: float

    def __call__(self, instance: object, attribute: object, value: Mapping[str, Any]) -> None:
        for name, number in value.items():
            if not number > self.bound:
                raise ValueError(f'{number:g} for "{name}" is not above {self.bound:g}')

    def schema(self) -> dict[str, Any]:
        return {"additionalProperties": {"type": "number", "exclusiveMinimum": self.bound}}


@attrs.frozen
class OneOf:
    """One of a few words; None passes."""

    words: tuple[str, ...]

    def __call__(self, instance: object, attribute: object, value: Any) -> None:
        if value is not None and value not in self.words:
            raise ValueError(f'"{value}" is not one of {", ".join(self.words)}')

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}


@attrs.frozen
class Matches:
    """Text of a certain form; None passes."""

    pattern: str
    meaning: str
    """The form in words, after "use"."""

    def __call__(self, instance: object, attribute: object, value: Any) -> None:
        # `$` would let a final line break pass, so the whole text is matched.
        if value is not None and not re.fullmatch(self.pattern.removeprefix("^").removesuffix("$"), value):
            raise ValueError(f'"{value}" cannot be used; use {self.meaning}')

    def schema(self) -> dict[str, Any]:
        return {"pattern": self.pattern}


@attrs.frozen
class Patterns:
    """Regular expressions."""

    def __call__(self, instance: object, attribute: object, value: tuple[str, ...]) -> None:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f'"{pattern}" is not a regular expression: {error}') from error

    def schema(self) -> dict[str, Any]:
        return {"format": "regex"}
