"""`Unreliable`: a proxy whose calls fail as network calls do, before or after their effect."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from cloud_tasks.errors import ProviderError
from simulated_cloud.faults import Faults

__all__ = ["Unreliable"]


class Unreliable:
    """Proxy that forwards calls to an object and lets some fail.

    Args:
        obstacle: Return the error of a call, given the name of its method; None if it takes place.
        never: Methods that never fail.
    """

    def __init__(
        self,
        inner: Any,
        rng: random.Random,
        faults: Faults,
        *,
        obstacle: Callable[[str], Exception | None] = lambda name: None,
        never: tuple[str, ...] = (),
    ) -> None:
        self.faults = faults
        self._inner = inner
        self._rng = rng
        self._obstacle = obstacle
        self._never = never

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if name in self._never:
                return method(*args, **kwargs)
            if (error := self._obstacle(name)) is not None:
                raise error
            dice = self._rng.random()
            if dice < self.faults.call_fails:
                raise ProviderError(f"{name}: too many requests", transient=True)
            answer = method(*args, **kwargs)
            if dice < self.faults.call_fails + self.faults.call_times_out:
                raise ProviderError(f"{name}: timed out", transient=True)
            return answer

        self.__dict__[name] = call
        return call
