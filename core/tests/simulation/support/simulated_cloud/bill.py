"""`Bill`: what the provider charges, which need not be what was booked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from cloud_tasks.model import Money

__all__ = ["Bill"]


class Bill:
    """Sum of charges per hour, each from its beginning to its end.

    Args:
        now: Return the true time.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._at = now()
        self._spent = 0.0
        self._rates: dict[str, float] = {}
        self.rate = 0.0
        """All present charges, in US dollars per hour."""
        self.peak = 0.0
        """Highest charge per hour of all at once, in US dollars."""

    def charge(self, name: str, per_hour: Money) -> None:
        """Charge a price for something from now on, in place of its former one; zero ends it."""
        self._settle()
        before, after = self._rates.pop(name, 0.0), float(per_hour.usd)
        if after:
            self._rates[name] = after
        self.rate = self.rate + after - before if self._rates else 0.0
        self.peak = max(self.peak, self.rate)

    def total(self) -> Money:
        """Return the sum until now."""
        self._settle()
        return Money(round(self._spent, 9))

    def exceeds_at(self, amount: Money) -> datetime:
        """Return when the sum exceeds an amount if no charge changes."""
        self._settle()
        left = float(amount.usd) - self._spent
        if left <= 0:
            return self._at
        if self.rate <= 0:
            return datetime.max.replace(tzinfo=self._at.tzinfo)
        return self._at + timedelta(hours=min(left / self.rate, 1e6))

    def _settle(self) -> None:
        now = self._now()
        self._spent += self.rate * ((now - self._at).total_seconds() / 3600)
        self._at = now
