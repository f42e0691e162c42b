"""`Money`: an exact amount in US dollars."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeAlias

import attrs

__all__ = ["Money"]

_Number: TypeAlias = int | float | Decimal | str


def _decimal(value: _Number) -> Decimal:
    # The shortest decimal form of a float (0.1 is 0.1), not its binary expansion.
    return Decimal(str(value)) if isinstance(value, float) else Decimal(value)


@attrs.frozen(order=True)
class Money:
    """An exact amount in US dollars; a price per hour if the name ends in ``_per_hour``."""

    usd: Decimal = attrs.field(converter=_decimal)
    """US dollars."""

    @classmethod
    def zero(cls) -> Money:
        """Return $0."""
        return cls(Decimal(0))

    def __add__(self, other: Money) -> Money:
        return Money(self.usd + other.usd)

    def __sub__(self, other: Money) -> Money:
        return Money(self.usd - other.usd)

    def __mul__(self, factor: int | float | Decimal) -> Money:
        return Money(self.usd * _decimal(factor))

    __rmul__ = __mul__

    def __truediv__(self, divisor: int | float | Decimal) -> Money:
        return Money(self.usd / _decimal(divisor))

    def __bool__(self) -> bool:
        return bool(self.usd)

    def format(self, places: int = 2) -> str:
        """Return the amount as text, rounded: ``$1,234.50``; with more places where it would read as zero."""
        text = f"{self.usd:,.{places}f}"
        if self.usd and not text.strip("-0."):
            text = f"{self.usd:,.{-self.usd.adjusted()}f}"
        return f"${text}"

    def __str__(self) -> str:
        return self.format()
