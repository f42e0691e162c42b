"""Checks of an account for ``doctor`` and before a run, as a list of probes.

Invariants, each with a test:

1. An error of a probe is a finding with a remedy, never an exception.
2. A probe runs only if those that it needs have passed.
3. A probe that may pass by itself later prevents no run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import attrs

from cloud_tasks.errors import CloudTasksError, LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.plugin.checks import Finding

__all__ = ["DoubtError", "Probe", "is_certain", "run_probes"]


class DoubtError(CloudTasksError):
    """A problem that a probe has found, which prevents no run, or not for certain."""


def is_certain(error: CloudTasksError) -> bool:
    """Return whether a run would certainly meet an error, too: not a doubt, a transient one, or a refused offer."""
    if isinstance(error, LaunchRefusedError):
        return error.scope is RefusalScope.ACCOUNT
    return not isinstance(error, DoubtError) and not (isinstance(error, ProviderError) and error.transient)


@attrs.frozen(kw_only=True)
class Probe:
    """One check."""

    subject: str
    """As for `Finding`."""
    look: Callable[[], str]
    """Return the result in one line, or raise `CloudTasksError` with the problem."""
    remedy: str = ""
    """Suggested fix, for errors without a hint of their own."""
    needs: tuple[str, ...] = ()
    """Subjects of earlier probes without which this one is skipped."""
    prevents_run: Callable[[CloudTasksError], bool] | bool = is_certain
    """Whether an error of this probe prevents a run."""


def run_probes(probes: Iterable[Probe]) -> Iterator[Finding]:
    """Run probes in order and yield their findings; skipped ones have none."""
    passed: set[str] = set()
    for probe in probes:
        if not passed.issuperset(probe.needs):
            continue
        finding = _finding(probe)
        if finding.ok:
            passed.add(probe.subject)
        yield finding


def _finding(probe: Probe) -> Finding:
    try:
        return Finding(ok=True, subject=probe.subject, message=probe.look())
    except CloudTasksError as error:
        prevents = probe.prevents_run(error) if callable(probe.prevents_run) else probe.prevents_run
        return Finding(
            ok=False,
            subject=probe.subject,
            message=error.message,
            remedy=error.hint or probe.remedy,
            prevents_run=prevents,
        )
