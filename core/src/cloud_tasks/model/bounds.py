"""Validators of numbers, with their part of the JSON Schema; messages follow ``section.key: ``."""

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
    """Validator: a number greater than a bound, or None."""

    bound: float
    """The bound, in the unit of the value; US dollars for `Money`."""
    remedy: str = ""
    """What to use instead, for the message; empty for nothing."""

    def __call__(self, instance: object, attribute: object, value: Any) -> None:
        if value is not None and not _number(value) > self.bound:
            remedy = f"; {self.remedy}" if self.remedy else ""
            raise ValueError(f"{_show(value)} is not above {self.bound:g}{remedy}")

    def schema(self) -> dict[str, Any]:
        """Return the keyword of the JSON Schema."""
        return {"exclusiveMinimum": self.bound}


@attrs.frozen
class AtLeast:
    """Validator: a number not less than a bound, or None."""

    bound: float
    """The bound, in the unit of the value; US dollars for `Money`."""

    def __call__(self, instance: object, attribute: object, value: Any) -> None:
        if value is not None and not _number(value) >= self.bound:
            raise ValueError(f"{_show(value)} is below {self.bound:g}")

    def schema(self) -> dict[str, Any]:
        """Return the keyword of the JSON Schema."""
        return {"minimum": self.bound}
