"""Whether a task gets another attempt, and when. Pure.

Rules are tried in order; the first that fits decides how many attempts there are in all. The three switches of a job
are the last rules. What no rule fits is not tried again. A retry that the task itself asks for is limited by
``max_attempts`` alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from cloud_tasks.errors import InputError
from cloud_tasks.worker.outcome import Outcome, OutcomeKind

__all__ = ["Backoff", "RetryRule", "RetryRules"]

_KINDS = {"exit": OutcomeKind.EXITED, "exception": OutcomeKind.EXCEPTION, "timeout": OutcomeKind.TIMED_OUT}


class RetryRule(NamedTuple):
    """One rule: an outcome that it fits may have this many attempts."""

    kind: OutcomeKind
    attempts: int
    codes: tuple[int, ...] = ()
    """Exit codes that it is for (137 stands for SIGKILL too); empty: all."""
    types: tuple[str, ...] = ()
    """Names of exception classes that it is for, base classes included; empty: all."""

    def fits(self, outcome: Outcome) -> bool:
        if outcome.kind is not self.kind:
            return False
        if self.codes:
            code = outcome.exit_code
            shell_code = None if code is None else code if code >= 0 else 128 - code
            return code in self.codes or shell_code in self.codes
        return not self.types or any(name in self.types for name in outcome.kinds)


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
        rules = list(_parse(data.retry_rules, data.max_attempts)) if data.retry_rules else []
        for kind, wanted in (
            (OutcomeKind.EXITED, data.retry_on_exit),
            (OutcomeKind.EXCEPTION, data.retry_on_exception),
            (OutcomeKind.TIMED_OUT, data.retry_on_timeout),
        ):
            if wanted:
                rules.append(RetryRule(kind=kind, attempts=data.max_attempts))
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
        return next((rule.attempts for rule in self.rules if rule.fits(outcome)), 1)

    def delay(self, outcome: Outcome, attempt: int) -> float:
        """Seconds before the attempt after this one."""
        if outcome.after is not None:
            return max(0.0, outcome.after)
        import random

        return self.backoff.delay(attempt, random.random())


def _parse(text: str, default_attempts: int) -> Sequence[RetryRule]:
    where = "retry_rules"
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise InputError(f"not JSON: {error}", where=where) from error
    if not isinstance(entries, list):
        raise InputError("expected a list of rules", where=where)
    rules = []
    for number, entry in enumerate(entries, start=1):
        place = f"{where}[{number}]"
        if not isinstance(entry, dict) or entry.get("on") not in _KINDS:
            raise InputError('each rule needs "on"', where=place, hint=f"one of {', '.join(_KINDS)}")
        unknown = set(entry) - {"on", "codes", "types", "attempts"}
        if unknown:
            raise InputError(f"unknown: {', '.join(sorted(unknown))}", where=place)
        try:
            rules.append(
                RetryRule(
                    kind=_KINDS[entry["on"]],
                    attempts=int(entry.get("attempts", default_attempts)),
                    codes=tuple(int(code) for code in entry.get("codes", ())),
                    types=tuple(str(name).rpartition(".")[2] for name in entry.get("types", ())),
                )
            )
        except (TypeError, ValueError) as error:
            raise InputError(str(error), where=place) from error
    return rules
