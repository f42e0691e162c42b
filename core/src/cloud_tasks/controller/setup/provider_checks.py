"""Checks of the provider's account by the backends: all of them for ``doctor``, and the free ones before a run.

Invariants, each with a test:

1. A check that raises, or returns something else than findings, is a failed finding itself.
2. A run is prevented only by a failed finding of which its backend is certain (`Finding.prevents_run`). A check that
   does not answer in time is a warning.
3. A run whose backends have no checks waits for nothing.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import attrs

from cloud_tasks.config import JobConfig
from cloud_tasks.controller.setup.open_backends import cache_dir
from cloud_tasks.errors import CloudTasksError, InputError, ProviderError
from cloud_tasks.escape import terminal_line
from cloud_tasks.model import LaunchRequest
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.quantities import format_span

__all__ = ["AccountError", "check_account", "check_backend", "check_context", "explained_by_checks"]

_KINDS = ("queue", "compute")
"""Prices are read before the checks of a run anyway."""
_TIMEOUT = 10.0
"""Seconds for all checks of a run."""
_MAX_FINDINGS = 100
_URL = re.compile(r"""\b[a-z][a-z0-9+]+://[^\s"'`$;|&()<>]+""")


class AccountError(InputError):
    """Failed checks that prevent a run, one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(problems[0])
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


def check_context(config: JobConfig, launch: LaunchRequest | None = None) -> CheckContext:
    """Return the parameters of the checks of a configuration."""
    return CheckContext(
        region=config.run.region,
        zone=config.run.zone,
        submit_dir=config.base_dir,
        cache_dir=cache_dir(),
        queue=config.backends.get("queue", ""),
        stores=tuple(url for url in (config.run.result_store, config.run.log_store) if url and "://" in url),
        downloads=_urls_of_script(config),
        staging=(config.run.staging or "") if config.is_shipped else "",
        launch=launch,
    )


def _urls_of_script(config: JobConfig) -> tuple[str, ...]:
    try:
        script = config.require_startup_script()
    except CloudTasksError:
        return ()
    return tuple(dict.fromkeys(_URL.findall(script)))


def check_backend(config: JobConfig, kind: str, context: CheckContext) -> Iterator[Finding]:
    """Yield the findings of a chosen backend; one that has no checks yields none."""
    name = config.backends[kind]
    try:
        check = getattr(config.registry, kind)(name).check
        settings = config.settings_for(kind, name)
    except CloudTasksError as error:
        yield Finding(ok=False, subject="settings", message=error.message, remedy=error.hint)
        return
    if check is None:
        return
    try:
        for finding in itertools.islice(check(settings, context), _MAX_FINDINGS):
            yield _printable(finding)
    except (GeneratorExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # third-party code: its failure is a finding, too
        known = error if isinstance(error, CloudTasksError) else None
        message = f"{type(error).__name__}: {error}" if known is None else known.message
        remedy = "please report it to the plugin's author" if known is None else known.hint
        problem = f"the check itself failed: {message}"
        yield _printable(Finding(ok=False, subject="check", message=problem, remedy=remedy))


def _printable(finding: object) -> Finding:
    if not isinstance(finding, Finding):
        raise TypeError(f"expected a Finding, got {type(finding).__name__}")
    subject, message, remedy = (terminal_line(str(each)) for each in (finding.subject, finding.message, finding.remedy))
    return attrs.evolve(finding, ok=bool(finding.ok), subject=subject, message=message, remedy=remedy)


def check_account(
    config: JobConfig, launch: LaunchRequest | None = None, *, timeout: float = _TIMEOUT
) -> tuple[str, ...]:
    """Make the checks of the chosen queue and compute backends in parallel; return warnings, one line each.

    Args:
        launch: The first launch of the run; None if it is not known.

    Raises:
        AccountError: A failed check prevents the run.
    """
    if not config.run.checks:
        return ()
    context = check_context(config, launch)
    checks = [_RunningCheck(config, kind, context) for kind in _KINDS if _has_check(config, kind)]
    deadline = time.monotonic() + timeout
    problems: dict[str, None] = {}
    warnings: dict[str, None] = {}
    for check in checks:
        is_done = check.done.wait(max(deadline - time.monotonic(), 0))
        for finding in tuple(check.findings):
            if not finding.ok:
                remedy = f"; {finding.remedy}" if finding.remedy else ""
                line = f"{check.name}: {finding.subject}: {finding.message}{remedy}"
                (problems if finding.prevents_run else warnings)[line] = None
        if not is_done:
            span = format_span(timedelta(seconds=timeout))
            warnings[f"{check.name}: the account could not be checked within {span}"] = None
    if problems:
        raise AccountError(tuple(problems))
    return tuple(warnings)


@contextmanager
def explained_by_checks(config: JobConfig) -> Iterator[None]:
    """After a failed call to the provider, raise `AccountError` instead if the checks find the cause."""
    try:
        yield
    except ProviderError as error:
        try:
            check_account(config)
        except AccountError as cause:
            raise cause from error
        raise


def _has_check(config: JobConfig, kind: str) -> bool:
    name = config.backends.get(kind)
    return name is not None and getattr(config.registry, kind)(name).check is not None


class _RunningCheck:
    """The checks of one backend, in a thread that nothing waits for at the end of the process."""

    def __init__(self, config: JobConfig, kind: str, context: CheckContext) -> None:
        self.name = config.backends[kind]
        self.findings: list[Finding] = []
        self.done = threading.Event()

        def run() -> None:
            try:
                self.findings.extend(check_backend(config, kind, context))
            finally:
                self.done.set()

        threading.Thread(target=run, name=f"check-{kind}", daemon=True).start()
