"""The errors of cloud-tasks. Standard library only.

A message has the location and the problem, ``hint`` the remedy. The command line prints both on one line and sets the
exit code: 2 for `InputError`, 1 for other errors.

Invariant, with a test: no message and no remedy has a URL with credentials.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from cloud_tasks.escape import without_credentials

if TYPE_CHECKING:
    # Every task process loads this module; it must not import more for a type.
    from datetime import timedelta
    from pathlib import Path

__all__ = [
    "CloudTasksError",
    "CredentialsError",
    "InputError",
    "LaunchFailedError",
    "LaunchRefusedError",
    "NotFoundError",
    "PlaceError",
    "PluginError",
    "ProviderError",
    "RefusalScope",
    "Retry",
    "StoreBusyError",
    "StoreError",
    "StoreFullError",
    "StoreGoneError",
    "StoreUnavailableError",
]


class CloudTasksError(Exception):
    """Base class of all errors that cloud-tasks raises.

    Args:
        message: The problem in one line, lower case, without a full stop.
        hint: The remedy in one line; empty if the message implies it.

    ``str(error)`` has both (``message; hint``). To raise an error with another text, pass ``error.message`` and
    ``error.hint`` on separately.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = without_credentials(message)
        self.hint = without_credentials(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class InputError(CloudTasksError):
    """Invalid user input: configuration, option or task file. Exit code 2.

    Args:
        where: Location: ``file``, ``file:line`` or ``file: section.key``; empty for the command line.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message, hint=hint)
        self.where = without_credentials(where)


class PlaceError(InputError):
    """A job is in another place than the configuration names. The job's record has the place of its instances."""


class PluginError(CloudTasksError):
    """A requested plugin cannot be used; the message has its name, its distribution and the cause."""


class StoreError(CloudTasksError):
    """The job database cannot be used: wrong schema version, another job, or locked by a running controller."""


class StoreUnavailableError(StoreError):
    """The job database cannot be used at present: I/O error. The same call may succeed later, and changed nothing."""


class StoreBusyError(StoreUnavailableError):
    """Another program holds a lock on the job database."""


class StoreFullError(StoreUnavailableError):
    """The disk of the job database is full."""


class StoreGoneError(StoreError):
    """The file of the open job database was deleted or replaced.

    Args:
        copy: File with its content; None if it could not be saved.
    """

    def __init__(self, message: str, *, copy: Path | None, hint: str = "") -> None:
        saved = f"its content was saved as {copy}" if copy is not None else "its content could not be saved"
        super().__init__(message, hint=hint or saved)
        self.copy = copy


class ProviderError(CloudTasksError):
    """A call of a provider failed. SDK exceptions are converted to this error (``raise … from``).

    Args:
        transient: Whether the same call may succeed later (throttling, timeout, 5xx, lost connection). Of a launch, the
            outcome is then unknown, except after a `LaunchRefusedError`.
    """

    def __init__(self, message: str, *, transient: bool = False, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.transient = transient


class CredentialsError(ProviderError):
    """The credentials are missing, expired or revoked, for the whole account: nothing was done.

    A person has to renew them, which a running command notices at its next call: the backend reads them again. From
    `Compute.launch` it means that nothing was started; after the request was sent, raise a transient `ProviderError`.
    """


class NotFoundError(ProviderError):
    """The queue, instance or object does not exist."""


class RefusalScope(enum.Enum):
    """The scope of a refused launch: the launches that would be refused for the same reason.

    Attributes:
        OFFER: The instance type in the zone, with the provisioning model (spot or on-demand).
        ZONE: Every launch in the zone, with the provisioning model of the refused one.
        REGION: Every launch in the region, with the provisioning model of the refused one.
        INSTANCE_TYPE: The instance type in every zone, with the provisioning model of the refused launch.
        ACCOUNT: Every launch: missing permission, billing problem, global quota or rate limit.
    """

    OFFER = "offer"
    ZONE = "zone"
    REGION = "region"
    INSTANCE_TYPE = "instance_type"
    ACCOUNT = "account"


_LONG_REFUSAL = 600.0
"""Seconds after which a refusal for the whole account is most likely no shortage."""


class LaunchRefusedError(ProviderError):
    """The provider refused a launch; nothing was started, and a later launch may succeed.

    ``transient`` is therefore true, although the outcome is known: catch it before a check of ``transient``.

    Args:
        scope: Launches to avoid.
        retry_after: Time for which to avoid them.
        reason: The provider's error code, e.g. ``ZONE_RESOURCE_POOL_EXHAUSTED``.
        needs_action: Whether only a person can remove the cause, such as a missing permission, a quota or a setting; a
            run that cannot start then ends after ``give_up_after``. None: for the whole account and ten minutes or
            more.
    """

    def __init__(
        self,
        message: str,
        *,
        scope: RefusalScope,
        retry_after: timedelta,
        reason: str,
        hint: str = "",
        needs_action: bool | None = None,
    ) -> None:
        super().__init__(message, transient=True, hint=hint)
        self.scope = scope
        self.retry_after = retry_after
        self.reason = reason
        is_long = scope is RefusalScope.ACCOUNT and retry_after.total_seconds() >= _LONG_REFUSAL
        self.needs_action = is_long if needs_action is None else needs_action


class LaunchFailedError(ProviderError):
    """A launch failed permanently: nothing was started, and the same launch would fail again.

    For causes that no other zone or instance type avoids: a missing network, an invalid command line. For causes with
    a scope, raise `LaunchRefusedError`.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, transient=False, hint=hint)


class Retry(Exception):  # noqa: N818 - a request, not an error
    """Raised by a task function to request another attempt; the current one counts towards ``max_attempts``.

    Args:
        reason: Recorded in the attempt history.
        after: Minimum delay before the next attempt, in seconds or as a `timedelta`; a negative one counts as 0. None
            for the usual backoff.

    Raises:
        TypeError: ``after`` is neither a number nor a `timedelta`.
        ValueError: ``after`` is NaN, or longer than a year.
    """

    def __init__(self, reason: str = "", *, after: float | timedelta | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = None if after is None else _delay_seconds(after)


_LONGEST_DELAY = 366 * 86400.0


def _delay_seconds(after: Any) -> float:
    seconds = after.total_seconds() if hasattr(after, "total_seconds") else after
    if isinstance(seconds, (str, bytes, bool)) or not hasattr(seconds, "__float__"):
        raise TypeError(f"Retry: after: expected seconds or a timedelta, got {after!r:.60}")
    try:
        number = float(seconds)
    except OverflowError:
        number = float("inf")
    # The comparison also refuses NaN.
    if not number <= _LONGEST_DELAY or number == float("-inf"):
        raise ValueError(f"Retry: after: expected at most a year (in seconds), got {number:g}")
    return max(0.0, number)


_FORMER_NAMES = {"LaunchRefused": "LaunchRefusedError", "NotFound": "NotFoundError"}
"""Deprecated names, accepted for one release."""


def __getattr__(name: str) -> Any:
    if name not in _FORMER_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import warnings

    current = _FORMER_NAMES[name]
    message = f"{__name__}.{name} is deprecated and will be removed in the next release: renamed to {current}"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return globals()[current]
