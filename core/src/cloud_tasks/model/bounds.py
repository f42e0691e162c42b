"""Bounds of numbers. Each knows its part of the JSON Schema; each message reads well after ``section.key: ``."""

from __future__ import annotations

from typing import Any

import attrs

from cloud_tasks.model.money import Money

__all__ = ["Above", "AtLeast"]


def _number(value: Any) -> Any:
    return value.usd if isinstance(value, Money) else value


def _show(value: Any) -> str:
    return f"{_number(value):g}"


@attrs.frozen
class Above:
    """A number above a bound; None passes."""

    bound: float

    def __call__(self, instance: object, attribute: object, value: Any) -> None:
        if value is not None and not _number(value) > self.bound:
            raise ValueError(f"{_show(value)} is not above {self.bound:g}")

    def schema(self) -> dict[str, Any]:
        return {"exclusiveMinimum": self.bound}


@attrs.frozen
class AtLeast:
    """A number not below a bound; None passes."""

    bound: float

    def __call__(self, instance: object, attribute: object, value: Any) -> None:
        if value is not None and not _number(value) >= self.bound:
            raise ValueError(f"{_show(value)} is below {self.bound:g}")

    def schema(self) -> dict[str, Any]:
        return {"minimum": self.bound}
