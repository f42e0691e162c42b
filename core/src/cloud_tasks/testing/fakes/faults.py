"""Fault injection: calls of a backend fail before they take effect (throttling), or after (a lost answer)."""

from __future__ import annotations

import enum
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import attrs

from cloud_tasks.errors import ProviderError

__all__ = ["Fault", "When", "inject"]

_T = TypeVar("_T")


class When(enum.Enum):
    """Whether a fault occurs before or after the real call.

    Attributes:
        BEFORE: The call has no effect: throttling, a refused connection.
        AFTER: The call takes effect and its answer is lost, as in a time-out.
    """

    BEFORE = "before"
    AFTER = "after"


@attrs.frozen(kw_only=True)
class Fault:
    """Calls of one method that fail."""

    method: str
    """Name of the method."""
    calls: frozenset[int] | None = None
    """Numbers of the calls, from 1; None: all."""
    when: When = When.BEFORE
    """Whether the failing calls take effect."""
    error: Callable[[], Exception] = lambda: ProviderError("injected fault", transient=True)
    """Return the exception to raise."""

    def strikes(self, method: str, call: int) -> bool:
        """Return whether this call of this method fails."""
        return method == self.method and (self.calls is None or call in self.calls)


def inject(target: _T, faults: Sequence[Fault]) -> _T:
    """Return a proxy of ``target`` with failing calls. Thread-safe if ``target`` is."""
    return cast(_T, _Faulty(target, faults))


class _Faulty:
    def __init__(self, target: object, faults: Sequence[Fault]) -> None:
        self._target = target
        self._faults = tuple(faults)
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        if not callable(attribute):
            return attribute

        def call(*arguments: Any, **named: Any) -> Any:
            with self._lock:
                self._calls[name] += 1
                number = self._calls[name]
            due = [fault for fault in self._faults if fault.strikes(name, number)]
            for fault in due:
                if fault.when is When.BEFORE:
                    raise fault.error()
            answer = attribute(*arguments, **named)
            for fault in due:
                raise fault.error()
            return answer

        return call
