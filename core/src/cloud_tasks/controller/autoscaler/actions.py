"""Actions that a decision calls for; the controller carries them out."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from cloud_tasks.selection import RankedOffer

__all__ = [
    "Abort",
    "Action",
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
    """The provider may choose one of these instead, for each instance anew."""


@attrs.frozen(kw_only=True)
class Terminate:
    instance_id: str
    reason: str


@attrs.frozen(kw_only=True)
class MarkEnded:
    """Our records say that it lives, the complete listing says that it does not."""

    instance_id: str
    reason: str


@attrs.frozen(kw_only=True)
class ForgetIntent:
    """A launch that was never answered and never appeared."""

    client_token: str
    reason: str


@attrs.frozen(kw_only=True)
class Requeue:
    """The queue is empty and the store is not: send the remaining tasks again."""

    reason: str


@attrs.frozen(kw_only=True)
class Drain:
    """Give out no more tasks: what runs may end, nothing else is begun."""

    reason: str


@attrs.frozen(kw_only=True)
class Warn:
    """Something the user should know; ``key`` tells one cause from another, each is told once while it lasts."""

    key: str
    message: str


@attrs.frozen(kw_only=True)
class Finish:
    """Every task is in a final state."""


@attrs.frozen(kw_only=True)
class Abort:
    """Going on would waste money: show a console log, terminate everything, exit non-zero."""

    reason: str
    console_of: str | None = None
    """The instance whose log tells most."""
    show_console: bool = True
    """Whether a console log helps to understand the reason; of any instance where none is named."""
    bad_input: bool = False
    """Whether the configuration or the startup script is the cause."""


Action: TypeAlias = Launch | Terminate | MarkEnded | ForgetIntent | Requeue | Drain | Warn | Finish | Abort
