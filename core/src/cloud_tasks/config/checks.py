"""Validators of single values, each with its part of the JSON Schema. Messages read well after ``section.key: ``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from cloud_tasks.exit_codes import AcceptedFailures

__all__ = [
    "AcceptedFailuresLike",
    "EachAbove",
    "EachNotBlank",
    "NameLike",
    "NotBlank",
    "OneOf",
    "Patterns",
    "SecretSources",
    "Variables",
]

_VARIABLE = "[A-Za-z_][A-Za-z0-9_]*"
_FILE_NAME = "[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}"
_SECRET_SOURCE = rf"env:{_VARIABLE}|file:[^\n]*\S[^\n]*"
_OWN = ("CLOUD_TASKS_", "RMS_CLOUD_TASKS_")


@attrs.frozen
class EachAbove:
    """Validator: every value of the mapping is a number above a bound."""

    bound: float

    def __call__(self, instance: object, attribute: object, value: Mapping[str, Any]) -> None:
        for name, number in value.items():
            if not number > self.bound:
                raise ValueError(f'{number:g} for "{name}" is not above {self.bound:g}')

    def schema(self) -> dict[str, Any]:
        return {"additionalProperties": {"type": "number", "exclusiveMinimum": self.bound}}


@attrs.frozen
class Variables:
    """Validator: environment variables for the programs of a job, by name."""

    def __call__(self, instance: object, attribute: object, value: Mapping[str, str]) -> None:
        for name, text in value.items():
            if not re.fullmatch(_VARIABLE, name):
                raise ValueError(f'"{name}" is not the name of a variable; use A-Z, a-z, 0-9 and "_", first no digit')
            if name.startswith(_OWN):
                raise ValueError(f'"{name}" is set by cloud-tasks; use its key in the configuration')
            if "\0" in text:
                raise ValueError(f'"{name}" has a NUL character, which no variable can have')

    def schema(self) -> dict[str, Any]:
        return {
            "propertyNames": {"pattern": f"^(?!(RMS_)?CLOUD_TASKS_){_VARIABLE}$"},
            "additionalProperties": {"type": "string"},
        }


@attrs.frozen
class SecretSources:
    """Validator: secrets by name, each with the place that has it. What is no such place may be a secret itself."""

    def __call__(self, instance: object, attribute: object, value: Mapping[str, str]) -> None:
        for name, source in value.items():
            if not re.fullmatch(_FILE_NAME, name):
                raise ValueError(
                    f'"{name}" is not the name of a secret; use letters, digits, "_", "-" and ".", first no "."'
                )
            if not re.fullmatch(_SECRET_SOURCE, source):
                form = "use env:VARIABLE or file:PATH"
                raise ValueError(f"{name}: expected the place of the secret, got other text (not shown); {form}")

    def schema(self) -> dict[str, Any]:
        return {
            "propertyNames": {"pattern": f"^{_FILE_NAME}$"},
            "additionalProperties": {"type": "string", "pattern": f"^({_SECRET_SOURCE})$"},
        }


@attrs.frozen
class NotBlank:
    """Validator: text with more than blanks, or None."""

    def __call__(self, instance: object, attribute: object, value: str | None) -> None:
        if value is not None and not value.strip():
            raise ValueError("expected text, got none; remove the key, or set a value")

    def schema(self) -> dict[str, Any]:
        return {"pattern": r"\S"}


@attrs.frozen
class EachNotBlank:
    """Validator: every text has more than blanks."""

    def __call__(self, instance: object, attribute: object, value: Sequence[str]) -> None:
        for number, text in enumerate(value, 1):
            if not text.strip():
                raise ValueError(f"expected text, got none as entry {number}; remove the entry, or set a value")

    def schema(self) -> dict[str, Any]:
        return {"items": {"type": "string", "pattern": r"\S"}}


@attrs.frozen
class OneOf:
    """Validator: one of a few words, or None."""

    words: tuple[str, ...]

    def __call__(self, instance: object, attribute: object, value: Any) -> None:
        if value is not None and value not in self.words:
            raise ValueError(f'"{value}" is not one of {", ".join(self.words)}')

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}


@attrs.frozen
class NameLike:
    """Validator: a name of a certain form, or None."""

    pattern: str
    form: str
    """The form in words, after "use"."""

    def __call__(self, instance: object, attribute: object, value: Any) -> None:
        # `$` would accept a final line break.
        if value is not None and not re.fullmatch(self.pattern.removeprefix("^").removesuffix("$"), value):
            raise ValueError(f'"{value}" is not a valid name; use {self.form}')

    def schema(self) -> dict[str, Any]:
        return {"pattern": self.pattern}


@attrs.frozen
class AcceptedFailuresLike:
    """Validator: a number of tasks, or a share of them in percent."""

    def __call__(self, instance: object, attribute: object, value: str) -> None:
        AcceptedFailures.parse(value)

    def schema(self) -> dict[str, Any]:
        return {"minimum": 0, "pattern": r"^[0-9]{1,15}((\.[0-9]{1,9})? ?%)?$"}


@attrs.frozen
class Patterns:
    """Validator: regular expressions."""

    def __call__(self, instance: object, attribute: object, value: tuple[str, ...]) -> None:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f'"{pattern}" is not a valid regular expression: {error}') from error

    def schema(self) -> dict[str, Any]:
        return {"format": "regex"}
