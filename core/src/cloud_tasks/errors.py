"""The errors of cloud-tasks: one small tree, standard library only.

Every message says what is wrong and where; ``hint`` says what to do. The command line prints both on one line
and chooses the exit code: 2 for `InputError`, 1 for the others.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Every task process of a worker has this module, and should not have another library for a name.
    from datetime import timedelta

__all__ = [
    "CloudTasksError",
    "InputError",
    "LaunchFailedError",
    "LaunchRefusedError",
    "NotFoundError",
    "PluginError",
    "ProviderError",
    "RefusalScope",
    "Retry",
    "StoreError",
]


class CloudTasksError(Exception):
    """Base of every error that this system raises on purpose.

    Args:
        message: What is wrong, in one line, without a full stop.
        hint: What to do about it, in one line; empty when the message says it all.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class InputError(CloudTasksError):
    """Something that the user wrote cannot be used: configuration, option, task file. Exit code 2.

    Args:
        where: The place: ``file``, ``file:line`` or ``file: section.key``; empty for the command line.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message, hint=hint)
        self.where = where


class PluginError(CloudTasksError):
    """A plugin that was asked for cannot be used; the message names it, its distribution and the cause."""


class StoreError(CloudTasksError):
    """The job database cannot be used: wrong schema version, another job's file, locked by a running controller."""


class ProviderError(CloudTasksError):
    """A provider's call failed. No SDK exception crosses a Protocol; it becomes one of these (``raise … from``).

    Args:
        transient: Whether the same call may succeed later (throttling, time-out, 5xx, lost connection).
    """

    def __init__(self, message: str, *, transient: bool = False, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.transient = transient


class NotFoundError(ProviderError):
    """The named queue, instance or object does not exist."""


class RefusalScope(enum.Enum):
    """How far a refused launch reaches: what else would be refused for the same reason."""

    OFFER = "offer"
    """This instance type in this zone, at this purchase option."""
    ZONE = "zone"
    REGION = "region"
    INSTANCE_TYPE = "instance_type"
    """This type in every zone."""
    ACCOUNT = "account"
    """Every launch: a permission, a billing problem, a global quota, or a rate limit."""


class LaunchRefusedError(ProviderError):
    """The provider will not start this instance now.

    Args:
        scope: What to avoid.
        retry_after: For how long to avoid it.
        reason: The provider's own code, e.g. ``ZONE_RESOURCE_POOL_EXHAUSTED``.
    """

    def __init__(
        self, message: str, *, scope: RefusalScope, retry_after: timedelta, reason: str, hint: str = ""
    ) -> None:
        super().__init__(message, transient=True, hint=hint)
        self.scope = scope
        self.retry_after = retry_after
        self.reason = reason


class LaunchFailedError(ProviderError):
    """A launch failed for certain: nothing was started, and the same launch fails again unless something changes.

    For a cause that no other zone or instance type avoids: a missing network, a rejected command line. A cause that
    has a scope is a `LaunchRefusedError`.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, transient=False, hint=hint)


class Retry(Exception):  # noqa: N818 - a request, not an error
    """Raised by a task function to be run again; counts as an attempt.

    Args:
        reason: Kept in the attempt's history.
        after: Seconds to wait at least before the next attempt; None for the usual back-off.
    """

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


_FORMER_NAMES = {"LaunchRefused": "LaunchRefusedError", "NotFound": "NotFoundError"}
"""Names until 0.1, accepted for one release."""


def __getattr__(name: str) -> Any:
    if name not in _FORMER_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import warnings

    current = _FORMER_NAMES[name]
    message = f"{__name__}.{name} is deprecated and will be removed in the next release: renamed to {current}"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return globals()[current]
