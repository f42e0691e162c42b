"""Requested launches, and their results as the log shows them."""

from __future__ import annotations

import secrets
import string
from collections import Counter
from datetime import datetime

import attrs

from cloud_tasks.model import LaunchRequest
from cloud_tasks.selection import RankedOffer

__all__ = ["LaunchOrder", "LaunchWave", "new_token"]

_TOKEN_LETTERS = string.ascii_lowercase + string.digits


def new_token() -> str:
    """Return a client token that no launch has used."""
    return "".join(secrets.choice(_TOKEN_LETTERS) for _ in range(25))


@attrs.frozen(kw_only=True)
class LaunchOrder:
    """One requested launch."""

    ranked: RankedOffer
    request: LaunchRequest
    ordered_at: datetime
    """Time of its intent."""
    called_at: datetime | None = None
    """Time of the first call of the provider."""

    @property
    def token(self) -> str:
        """Client token of the request."""
        return self.request.client_token


@attrs.define
class LaunchWave:
    """Launches from the first request until none is open, for the log."""

    requested: int = 0
    started: int = 0
    not_started: Counter[str] = attrs.field(factory=Counter)
    """By outcome."""

    def summary(self) -> str:
        """Return the line about the launches of the wave."""
        if self.started == self.requested:
            return f"Successfully provisioned {self.started} of {self.requested} requested instances"
        others = ", ".join(f"{count} {outcome}" for outcome, count in self.not_started.items())
        return f"Provisioned {self.started} of {self.requested} requested instances: {others}"
