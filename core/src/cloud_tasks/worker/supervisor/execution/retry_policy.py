"""Retry policy: the number of attempts of a task and the delay between them. Pure.

Rules are matched in order; the first match sets the maximum number of attempts. The three switches of a job are the
last rules. A failure that no rule matches is not retried. A retry that the task itself requests is limited by
``max_attempts`` only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from cloud_tasks.errors import InputError
from cloud_tasks.retry_rule import FAILURES, RetryRule, parse_rules
from cloud_tasks.worker.supervisor.execution.outcome import Outcome, OutcomeKind

__all__ = ["Backoff", "RetryRules"]

_KINDS = {"exit": OutcomeKind.EXITED, "exception": OutcomeKind.EXCEPTION, "timeout": OutcomeKind.TIMED_OUT}


class Backoff(NamedTuple):
    """Exponential backoff with jitter, in seconds."""

    base: float = 1.0
    cap: float = 60.0

    def delay(self, attempt: int, jitter: float) -> float:
        """Return the seconds after a failed attempt.

        Args:
            attempt: Number of the attempt, from 1.
            jitter: From 0 to 1; the delay is between half of the backoff and all of it.
        """
        backoff = min(self.cap, self.base * 2.0 ** min(attempt - 1, 60))
        return backoff * (0.5 + 0.5 * jitter)


class RetryRules(NamedTuple):
    """Retry rules and limits of a job."""

    rules: tuple[RetryRule, ...]
    max_attempts: int
    max_losses: int
    backoff: Backoff = Backoff()
    earlier_attempts: int = 0
    """Attempts of earlier runs, which the maximum includes and the backoff does not."""

    @classmethod
    def of(cls, data: Any) -> RetryRules:
        """Return the rules of the worker's options. Raise `InputError` for an invalid one."""
        try:
            rules = list(parse_rules(data.retry_rules)) if data.retry_rules else []
        except ValueError as error:
            raise InputError(str(error), where="retry_rules") from error
        switches = {"exit": data.retry_on_exit, "exception": data.retry_on_exception, "timeout": data.retry_on_timeout}
        rules += [RetryRule(on=failure) for failure in FAILURES if switches[failure]]
        return cls(
            rules=tuple(rules),
            max_attempts=data.max_attempts,
            max_losses=data.max_losses,
            backoff=Backoff(base=data.backoff_base, cap=data.backoff_cap),
            earlier_attempts=data.earlier_attempts,
        )

    def attempts(self, outcome: Outcome) -> int:
        """Return the maximum number of attempts of a task that ended with this outcome."""
        if outcome.kind is OutcomeKind.RETRY_REQUESTED:
            return self.max_attempts
        rule = next((rule for rule in self.rules if _matches(rule, outcome)), None)
        if rule is None:
            return 1
        return self.max_attempts if rule.attempts is None else rule.attempts

    def delay(self, outcome: Outcome, attempt: int) -> float:
        """Return the seconds before the next attempt.

        Args:
            attempt: Number of the attempt that failed.
        """
        return self._delay(outcome, max(1, attempt - self.earlier_attempts))

    def interruption_delay(self, outcome: Outcome, losses: int) -> float:
        """Return the seconds before the next attempt after so many interrupted ones in this run."""
        return self._delay(outcome, losses)

    def _delay(self, outcome: Outcome, number: int) -> float:
        if outcome.after is not None:
            return max(0.0, outcome.after)
        import random

        return self.backoff.delay(number, random.random())


def _matches(rule: RetryRule, outcome: Outcome) -> bool:
    if outcome.kind != _KINDS[rule.on]:
        return False
    if rule.codes:
        code = outcome.exit_code
        shell_code = None if code is None else code if code >= 0 else 128 - code
        return code in rule.codes or shell_code in rule.codes
    # An outcome has the names of classes without their modules.
    return not rule.types or any(name.rpartition(".")[2] in outcome.kinds for name in rule.types)
