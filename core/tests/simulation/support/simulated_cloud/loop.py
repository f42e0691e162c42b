"""`CrashableLoop`: the controller's loop inside the simulated world; it can crash at any point, or sleep.

Invariants, each with a test:

1. After a crash no callback of that controller runs any more; the simulation continues.
2. While the controller's computer sleeps, none of its callbacks runs; all run in order when it wakes up.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from virtual_loop import VirtualLoop

__all__ = ["CrashPoints", "CrashableLoop", "Pointed", "SimulatedCrash", "WorldEnded"]

_T = TypeVar("_T")


class SimulatedCrash(BaseException):
    """Crash of the controller's process; caught by the simulation only."""


class WorldEnded(BaseException):
    """Virtual time ran out before the end of the job."""


class PlantedError(Exception):
    """A defect in a callback of the controller."""


class ErrorPoints:
    """Errors in callbacks of the controller; the number of callbacks up to the next error is drawn after each.

    Args:
        errors: Total number of errors.
    """

    def __init__(self, rng: random.Random, errors: int) -> None:
        self._rng = rng
        self.left = errors
        self._ahead = self._draw()

    def _draw(self) -> int:
        return int(self._rng.expovariate(1 / self._rng.choice((3, 30, 150, 500))))

    def __call__(self) -> None:
        if self.left <= 0:
            return
        self._ahead -= 1
        if self._ahead < 0:
            self.left -= 1
            self._ahead = self._draw()
            raise PlantedError


class CrashPoints:
    """Crash points of the controller; the number of points up to the next crash is drawn after each crash.

    Args:
        crashes: Total number of crashes.
        first: Number of points before the first crash; None: drawn too.
    """

    def __init__(self, rng: random.Random, crashes: int, *, first: int | None = None) -> None:
        self._rng = rng
        self.left = crashes
        self.passed = 0
        """Number of points passed."""
        self.log: list[str] = []
        self._ahead = self._draw() if first is None else first

    def _draw(self) -> int:
        # Some crashes are close to the start, others late.
        return int(self._rng.expovariate(1 / self._rng.choice((3, 30, 150, 500))))

    def __call__(self, place: str) -> None:
        self.passed += 1
        if self.left <= 0:
            return
        self._ahead -= 1
        if self._ahead < 0:
            self.left -= 1
            self.log.append(place)
            self._ahead = self._draw()
            raise SimulatedCrash(place)


class Pointed:
    """Proxy with a crash point before and after each call, for objects that are called without a loop."""

    def __init__(self, inner: Any, point: Callable[[str], None], run_for: Callable[[], None]) -> None:
        self._inner = inner
        self._point = point
        self._run_for = run_for

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._point(f"before {name}")
            answer = method(*args, **kwargs)
            self._run_for()
            self._point(f"after {name}")
            return answer

        return call


class CrashableLoop:
    """A `cloud_tasks.controller.event_loop.Loop` on top of the world's.

    Args:
        point: Called at each crash point.
        deadline: Virtual time at which the world ends.
        on_failure: Called with the error of each failed call before its callback.
        error_point: Called before each callback, which is then omitted if it raises.
        now: Return the time; None for the true time.
    """

    def __init__(
        self,
        world: VirtualLoop,
        *,
        point: Callable[[str], None],
        deadline: Callable[[], datetime],
        asleep_until: Callable[[], datetime],
        on_failure: Callable[[Exception], None] = lambda error: None,
        error_point: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._world = world
        self._point = point
        self._deadline = deadline
        self._asleep_until = asleep_until
        self._on_failure = on_failure
        self._error_point = error_point
        self.now = now or world.now
        """Returns the time of the controller's clock."""
        self.alive = True

    def call(self, work: Callable[[], _T], then: Callable[[_T], None], failed: Callable[[Exception], None]) -> None:
        self._point("before a call")

        def on_error(error: Exception) -> None:
            self._on_failure(error)
            failed(error)

        self._world.call(
            work,
            lambda result: self._guarded(lambda: then(result)),
            lambda error: self._guarded(lambda: on_error(error)),
        )
        self._point("after a call took effect")

    def later(self, delay: timedelta, callback: Callable[[], None]) -> None:
        self._world.later(delay, lambda: self._guarded(callback))

    def post(self, callback: Callable[[], None]) -> None:
        self._world.post(lambda: self._guarded(callback))

    def _guarded(self, callback: Callable[[], None]) -> None:
        if not self.alive:
            return
        asleep = self._asleep_until() - self._world.now()
        if asleep > timedelta(0):
            self._world.later(asleep, lambda: self._guarded(callback))
            return
        self._point("before a callback")
        self._error_point()
        callback()

    def run(self, done: Callable[[], bool]) -> None:
        while not done():
            if self._world.now() > self._deadline():
                raise WorldEnded
            if not self._world.step():
                raise RuntimeError("nothing more can happen, and the controller is not done")
