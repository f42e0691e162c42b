"""Whether a task gets another attempt, and when. Pure.

Rules are tried in order; the first that fits decides how many attempts there are in all. The three switches of a job
are the last rules. What no rule fits is not tried again. A retry that the task itself asks for is limited by
``max_attempts`` alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from cloud_tasks.errors import InputError
from cloud_tasks.retry_rule import FAILURES, RetryRule, parse_rules
from cloud_tasks.worker.supervisor.outcome import Outcome, OutcomeKind

__all__ = ["Backoff", "RetryRules"]

_KINDS = {"exit": OutcomeKind.EXITED, "exception": OutcomeKind.EXCEPTION, "timeout": OutcomeKind.TIMED_OUT}


class Backoff(NamedTuple):
    """Seconds between attempts: doubled each time, held below a cap, spread by chance."""

    base: float = 1.0
    cap: float = 60.0

    def delay(self, attempt: int, draw: float) -> float:
        """The seconds after a failed ``attempt``; ``draw`` is from 0 to 1, and makes between half of it and all."""
        whole = min(self.cap, self.base * 2.0 ** min(attempt - 1, 60))
        return whole * (0.5 + 0.5 * draw)


class RetryRules(NamedTuple):
    rules: tuple[RetryRule, ...]
    max_attempts: int
    max_losses: int
    backoff: Backoff = Backoff()

    @classmethod
    def of(cls, data: Any) -> RetryRules:
        """The rules that the worker's options make. Raises `InputError`."""
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
        )

    def attempts(self, outcome: Outcome) -> int:
        """How many attempts in all a task may have that ended like this."""
        if outcome.kind is OutcomeKind.RETRY_REQUESTED:
            return self.max_attempts
        rule = next((rule for rule in self.rules if _fits(rule, outcome)), None)
        if rule is None:
            return 1
        return self.max_attempts if rule.attempts is None else rule.attempts

    def delay(self, outcome: Outcome, attempt: int) -> float:
        """Seconds before the attempt after this one."""
        if outcome.after is not None:
            return max(0.0, outcome.after)
        import random

        return self.backoff.delay(attempt, random.random())


def _fits(rule: RetryRule, outcome: Outcome) -> bool:
    if outcome.kind != _KINDS[rule.on]:
        return False
    if rule.codes:
        code = outcome.exit_code
        shell_code = None if code is None else code if code >= 0 else 128 - code
        return code in rule.codes or shell_code in rule.codes
    # An outcome names classes without their module.
    return not rule.types or any(name.rpartition(".")[2] in outcome.kinds for name in rule.types)
