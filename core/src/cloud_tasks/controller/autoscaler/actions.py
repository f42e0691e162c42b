"""Actions that a decision calls for; the controller carries them out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeAlias

import attrs

from cloud_tasks.selection import RankedOffer

__all__ = [
    "Abort",
    "Action",
    "Discard",
    "Drain",
    "Finish",
    "ForgetIntent",
    "Launch",
    "MarkEnded",
    "Requeue",
    "Terminate",
    "Warn",
]


@attrs.frozen(kw_only=True)
class Launch:
    """Start ``count`` instances of one offer."""

    ranked: RankedOffer
    count: int
    alternatives: tuple[RankedOffer, ...] = ()
    """Offers of which the provider may select one instead, for each instance."""
    lifetime: timedelta | None = None
    """Time after which each instance ends itself; None: never."""


@attrs.frozen(kw_only=True)
class Terminate:
    """Terminate an instance."""

    instance_id: str
    reason: str
    has_failed_start: bool = False
    """Whether it sent no heartbeat within the startup time-out."""


@attrs.frozen(kw_only=True)
class Discard:
    """Terminate an instance that fails what others complete, and run its failed tasks again."""

    instance_id: str
    reason: str
    is_alive: bool = True
    """Whether it is still to be terminated."""


@attrs.frozen(kw_only=True)
class MarkEnded:
    """Record the end of an instance that a complete listing no longer shows."""

    instance_id: str
    reason: str
    ended_at: datetime | None = None
    """As the provider names it, by the clock of the job; None: unknown."""


@attrs.frozen(kw_only=True)
class ForgetIntent:
    """Record a launch of unknown outcome as failed: its instance was never listed."""

    client_token: str
    reason: str


@attrs.frozen(kw_only=True)
class Requeue:
    """Enqueue all unfinished tasks again: the queue no longer holds them."""

    reason: str


@attrs.frozen(kw_only=True)
class Drain:
    """Withdraw queued tasks; running ones may finish."""

    reason: str


@attrs.frozen(kw_only=True)
class Warn:
    """Log a warning, once for as long as its cause (``key``) lasts."""

    key: str
    message: str


@attrs.frozen(kw_only=True)
class Finish:
    """End the run: every task is finished."""


@attrs.frozen(kw_only=True)
class Abort:
    """End the run as aborted: continuing would waste money."""

    reason: str
    console_of: str | None = None
    """Instance whose console log explains the reason best."""
    show_console: bool = True
    """Whether a console log helps; of the latest instance if none is named."""
    bad_input: bool = False
    """Whether the configuration or the startup script is the cause."""


Action: TypeAlias = Launch | Terminate | Discard | MarkEnded | ForgetIntent | Requeue | Drain | Warn | Finish | Abort
