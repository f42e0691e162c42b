"""Errors of a service as a table: code or message, what it means, and what a person can do.

Invariants, each with a test:

1. The first rule that matches decides; without one, the HTTP status does.
2. A refused launch always has a scope and a time; an error that no rule knows is never a refusal.
3. A message is one line that begins with the action.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache

import attrs

from cloud_tasks.errors import (
    CredentialsError,
    LaunchFailedError,
    LaunchRefusedError,
    NotFoundError,
    ProviderError,
    RefusalScope,
)

__all__ = ["ErrorKind", "ErrorRule", "Problem", "judge", "matching_rule", "refused", "translate_errors"]

_TRANSIENT_STATUS = (408, 425, 429)
_MAX_MESSAGE = 1000


class ErrorKind(enum.Enum):
    """Meaning of an error.

    Attributes:
        TRANSIENT: The same call may succeed later; for a launch, the outcome is unknown.
        PERMANENT: The same call fails again.
        NOT_FOUND: The queue, instance or object does not exist.
        CREDENTIALS: A person has to renew the credentials; nothing was done.
        REFUSED: A launch was refused within a scope; nothing was started.
        FAILED: A launch failed, and no other offer helps; nothing was started.
    """

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    NOT_FOUND = "not found"
    CREDENTIALS = "credentials"
    REFUSED = "refused"
    FAILED = "failed"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_MAX_MESSAGE].rstrip(".")


@attrs.frozen(kw_only=True)
class Problem:
    """An error as the service reported it."""

    code: str
    """Code of the service, or the name of an exception's class."""
    message: str = attrs.field(default="", converter=_one_line)
    """Converted to one line without a final full stop."""
    status: int = 0
    """HTTP status; 0 without one."""
    also: tuple[str, ...] = ()
    """Further codes that rules match, such as the names of an exception's base classes."""

    @classmethod
    def of_exception(cls, error: BaseException) -> Problem:
        """Return the problem of an exception, with the names of its classes as codes."""
        names = [each.__name__ for each in type(error).__mro__]
        return cls(code=names[0], message=str(error), also=tuple(names[1:]))

    @property
    def text(self) -> str:
        """The code and the message."""
        return f"{self.code}: {self.message}" if self.message else self.code


@attrs.frozen(kw_only=True)
class ErrorRule:
    """Errors of a service that mean the same. See `refused` for those of launches."""

    kind: ErrorKind
    """What the errors mean."""
    code: str = ".*"
    """Regular expression that matches the whole code."""
    message: str = ""
    """Regular expression found in the message, in any case."""
    hint: str = ""
    """The remedy in one line."""
    scope: RefusalScope | None = None
    """Launches to avoid, for `ErrorKind.REFUSED` only."""
    retry_after: timedelta | None = None
    """Time for which to avoid them."""
    needs_action: bool | None = None
    """As for `LaunchRefusedError`."""

    def __attrs_post_init__(self) -> None:
        is_refusal = self.kind is ErrorKind.REFUSED
        if is_refusal != (self.scope is not None) or is_refusal != (self.retry_after is not None):
            raise ValueError("scope and retry_after belong to a refusal, and only to one")
        _compiled(self.code), _compiled(self.message)

    def matches(self, problem: Problem) -> bool:
        """Return whether the rule is for this problem."""
        code, message = _compiled(self.code), _compiled(self.message)
        return any(code.fullmatch(each) for each in (problem.code, *problem.also)) and (
            message.search(problem.message) is not None
        )


def refused(
    code: str,
    scope: RefusalScope,
    retry_after: timedelta,
    *,
    message: str = "",
    hint: str = "",
    needs_action: bool | None = None,
) -> ErrorRule:
    """Return the rule of a refused launch."""
    return ErrorRule(
        kind=ErrorKind.REFUSED,
        code=code,
        message=message,
        hint=hint,
        scope=scope,
        retry_after=retry_after,
        needs_action=needs_action,
    )


def matching_rule(problem: Problem, rules: Sequence[ErrorRule]) -> ErrorRule | None:
    """Return the first rule for a problem."""
    return next((rule for rule in rules if rule.matches(problem)), None)


def judge(
    action: str,
    problem: Problem,
    rules: Sequence[ErrorRule],
    *,
    default: ErrorRule | None = None,
) -> ProviderError:
    """Return the error for a problem.

    Args:
        action: Start of the message: ``launching small in north-1``.
        default: For permanent errors that no rule knows; None for a permanent `ProviderError`. A launch that the
            service definitely did not make needs one: after another error its outcome counts as unknown.
    """
    rule = matching_rule(problem, rules)
    if rule is None:
        is_transient = problem.status >= 500 or problem.status in _TRANSIENT_STATUS
        rule = ErrorRule(kind=ErrorKind.TRANSIENT) if is_transient else default or ErrorRule(kind=ErrorKind.PERMANENT)
    message = f"{action}: {problem.text}"
    if rule.scope is not None and rule.retry_after is not None:
        return LaunchRefusedError(
            message,
            scope=rule.scope,
            retry_after=rule.retry_after,
            reason=problem.code,
            hint=rule.hint,
            needs_action=rule.needs_action,
        )
    if rule.kind is ErrorKind.FAILED:
        return LaunchFailedError(message, hint=rule.hint)
    if rule.kind is ErrorKind.NOT_FOUND:
        return NotFoundError(message, hint=rule.hint)
    if rule.kind is ErrorKind.CREDENTIALS:
        return CredentialsError(message, hint=rule.hint)
    return ProviderError(message, transient=rule.kind is ErrorKind.TRANSIENT, hint=rule.hint)


@contextmanager
def translate_errors(
    action: str,
    problem_of: Callable[[Exception], Problem | None],
    rules: Sequence[ErrorRule] = (),
) -> Iterator[None]:
    """Raise the exceptions of a library as errors of cloud-tasks.

    Args:
        problem_of: Return the problem of an exception of the library; None for another exception, which is raised as it
            is.
    """
    try:
        yield
    except Exception as error:
        problem = problem_of(error)
        if problem is None:
            raise
        raise judge(action, problem, rules) from error


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)
