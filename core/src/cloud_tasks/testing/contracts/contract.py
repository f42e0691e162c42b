"""Base of the contracts: inheritance of tests, and waiting.

Invariants, each with a test:

1. A test of a contract can be opted out of only by overriding it with an ``xfail`` that has a reason.
2. Every test of a subclass without a ``subject`` fixture fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

import pytest

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import CheckContext, ComputeBackend, Finding, QueueBackend

__all__ = ["Contract", "eventually", "require_no_obstacle", "require_provider_errors", "sleep"]

_T = TypeVar("_T")


class Contract:
    """Base of the contracts. Direct subclasses define a contract; further subclasses must pass it."""

    contract_tests: ClassVar[frozenset[str]] = frozenset()
    """Names of the contract's tests."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if Contract in cls.__bases__:
            cls.contract_tests = frozenset(name for name in dir(cls) if name.startswith("test_"))
            return
        for name in sorted(cls.contract_tests):
            if name in vars(cls) and not _opted_out(vars(cls)[name]):
                raise TypeError(
                    f"{cls.__name__} overrides {name} of the contract; to opt out, mark it with "
                    'pytest.mark.xfail(reason="why")'
                )
            if not callable(getattr(cls, name, None)):
                raise TypeError(f"{cls.__name__} lacks {name} of the contract")

    @pytest.fixture
    def subject(self) -> Any:
        """Backend under test; the fixture that a subclass must provide."""
        pytest.fail(f'{type(self).__name__} has no fixture "subject"', pytrace=False)


def eventually(
    observe: Callable[[], _T],
    expected: Callable[[_T], object] = bool,
    *,
    patience: timedelta = timedelta(seconds=20),
    show: Callable[[_T], object] = repr,
) -> _T:
    """Observe until an observation is as expected, and return it.

    Raises:
        AssertionError: None was within ``patience``; the message shows the last one.
    """
    deadline = time.monotonic() + patience.total_seconds()
    while not expected(found := observe()):
        if time.monotonic() >= deadline:
            raise AssertionError(
                f"not as expected within {patience.total_seconds():g} s; last observation: {show(found)}"
            )
        time.sleep(0.01)
    return found


def sleep(duration: timedelta) -> None:
    """Wait; the default of ``advance`` of a subject."""
    time.sleep(duration.total_seconds())


def require_provider_errors(calls: Mapping[str, Callable[[], object]], *, transient: bool) -> None:
    """Assert that each call raises a `ProviderError`, transient or with a hint. Report all calls that do not.

    The calls are made in parallel, since each may retry for a while.
    """
    with ThreadPoolExecutor(len(calls)) as threads:
        found = list(threads.map(lambda call: _problem(call, transient), calls.values()))
    problems = [f"{name}: {problem}" for name, problem in zip(calls, found, strict=True) if problem]
    assert not problems, "\n".join(problems)


def _problem(call: Callable[[], object], transient: bool) -> str:
    """Return what is wrong with the error of a call; empty if nothing is."""
    try:
        answer = call()
    except ProviderError as error:
        if error.transient is not transient:
            return f"raised with transient={error.transient}: {error!r}"
        return "" if transient or error.hint else f"raised without a hint: {error!r}"
    except Exception as error:
        return f"raised {error!r}, expected a ProviderError"
    return f"returned {answer!r}, expected a ProviderError"


def require_no_obstacle(backend: QueueBackend | ComputeBackend, settings: Any, context: CheckContext) -> None:
    """Assert that the checks of a backend return findings, and that none prevents a run."""
    for finding in () if backend.check is None else backend.check(settings, context):
        assert isinstance(finding, Finding), f"expected a Finding, got {finding!r}"
        assert finding.subject, f"without a subject: {finding}"
        assert finding.ok or not finding.prevents_run, f"prevents a run that works: {finding}"


def _opted_out(override: object) -> bool:
    marks = getattr(override, "pytestmark", [])
    return any(mark.name == "xfail" and str(mark.kwargs.get("reason", "")).strip() for mark in marks)
