"""Calls: listings that fail for good, calls that take an hour, expired credentials, queues that appear late."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import attrs

from cloud_tasks.errors import CredentialsError, ProviderError
from simulated_cloud.dials.dial import Dial, Window, with_budget, with_group

if TYPE_CHECKING:
    from simulated_cloud.scenario import Scenario

__all__ = ["DIALS", "CallFaults", "Obstacles"]

_HOUR = timedelta(hours=1)


@attrs.frozen(kw_only=True)
class CallFaults:
    """Disturbances of the calls of controller and workers."""

    listing_outage: Window | None = None
    listing_error: str = ""
    listing_is_transient: bool = True
    silent_zone: str = ""
    """Zone that does not answer for a time: listings omit its instances, or fail if the caller needs it."""
    silence: Window | None = None
    slow_call: float = 0.0
    """Probability that a call of the controller takes effect at once, and returns after an hour."""
    slow_listing: float = 0.0
    """The same of a listing."""
    controller_credentials: Window | None = None
    """Time in which the credentials of the controller have expired."""
    expires_after_sends: int = 0
    """Number of send calls after which the credentials of the controller expire; 0: never."""
    expired_for: timedelta = timedelta(0)
    """Time until the user renews them."""
    worker_credentials: Window | None = None
    """Time in which credentials of new instances expire; they expire for good at its beginning, or at the launch."""
    worker_share: float = 0.0
    """Share of these instances."""
    queue_delay: timedelta = timedelta(0)
    """Maximum time for which a new queue does not exist for other calls."""
    hidden_end: timedelta = timedelta(0)
    """Maximum time for which a terminated instance is listed as running, and cannot be terminated again."""

    @property
    def credentials_expire(self) -> bool:
        """Whether the credentials of the controller expire."""
        return self.controller_credentials is not None or self.expires_after_sends > 0


class Obstacles:
    """Errors and delays of calls at the present time.

    Args:
        elapsed: Return the time since the start of the simulation.
        faults: Return the faults of the present.
        charge: Extends the current call.
    """

    def __init__(
        self,
        rng: random.Random,
        elapsed: Callable[[], timedelta],
        faults: Callable[[], CallFaults],
        charge: Callable[[timedelta], None],
    ) -> None:
        self._rng = rng
        self._elapsed = elapsed
        self._faults = faults
        self._charge = charge
        self._repaired_at = timedelta(0)
        self._sends = 0
        self._expired_at: timedelta | None = None

    def repair(self) -> None:
        """End what lasts until it is repaired, as a user does after a run ended."""
        self._repaired_at = self._elapsed()

    def is_open(self, window: Window | None) -> bool:
        """Return whether a window covers the present."""
        return window is not None and window.covers(self._elapsed(), self._repaired_at)

    def of_controller(self, name: str) -> Exception | None:
        """Return the error of a call of the controller, and draw its delay."""
        faults = self._faults()
        self._count_sends(name, faults)
        if self.is_open(faults.controller_credentials) or self._has_expired(faults):
            return CredentialsError(f"{name}: the credentials have expired", hint="sign in again")
        if name == "instances" and self.is_open(faults.listing_outage):
            return ProviderError(faults.listing_error, transient=faults.listing_is_transient)
        slow = faults.slow_call + (faults.slow_listing if name == "instances" else 0.0)
        if slow and self._rng.random() < slow:
            self._charge(_HOUR)
        return None

    def _count_sends(self, name: str, faults: CallFaults) -> None:
        self._sends += name == "send"
        if faults.expires_after_sends and self._sends > faults.expires_after_sends and self._expired_at is None:
            self._expired_at = self._elapsed()

    def _has_expired(self, faults: CallFaults) -> bool:
        return self._expired_at is not None and self._elapsed() < self._expired_at + faults.expired_for

    def of_worker(self, name: str, launched: timedelta) -> Exception | None:
        """Return the error of a call of a worker whose credentials are among those that expire.

        Args:
            launched: Time of the launch since the start of the simulation.
        """
        window = self._faults().worker_credentials
        if window is not None and window.length is not None:
            has_expired = launched < window.begin + window.length and self._elapsed() >= window.begin
        else:
            has_expired = False
        if has_expired:
            return ProviderError(f"{name}: the credentials of this instance have expired")
        return None


def _listing_outage(rng: random.Random, scenario: Scenario) -> Scenario:
    error, transient = rng.choice(
        (
            ("no answer from zone elsewhere-b", True),
            ("no answer from zone elsewhere-b", False),
            ("permission to list instances denied", False),
            ("service unavailable", True),
        )
    )
    window = Window(begin=scenario.busy_time * rng.uniform(0.05, 0.6))
    changes = {"listing_outage": window, "listing_error": error, "listing_is_transient": transient}
    return with_group(with_budget(rng, scenario), "calls", **changes)


def _silent_zone(rng: random.Random, scenario: Scenario) -> Scenario:
    length = rng.choice((None, _HOUR * rng.uniform(0.1, 3)))
    window = Window(begin=timedelta(minutes=10) + scenario.busy_time * rng.uniform(0, 0.6), length=length)
    return with_group(scenario, "calls", silent_zone=rng.choice(("sim-a", "sim-b", "sim-c")), silence=window)


def _slow_call(rng: random.Random, scenario: Scenario) -> Scenario:
    slow_call, slow_listing = rng.choice(((0.003, 0.0), (0.0, 0.1)))
    return with_group(with_budget(rng, scenario), "calls", slow_call=slow_call, slow_listing=slow_listing)


def _credentials(rng: random.Random, scenario: Scenario) -> Scenario:
    length = _HOUR * rng.uniform(0.1, 3)
    if rng.random() < 0.1:
        # So many tasks that the credentials expire between two batches.
        tasks = max(scenario.tasks, 2500)
        scenario = attrs.evolve(scenario, tasks=tasks, mean_task_time=scenario.mean_task_time * scenario.tasks / tasks)
        return with_group(scenario, "calls", expires_after_sends=rng.randint(1, 2), expired_for=length)
    window = Window(begin=scenario.busy_time * rng.uniform(0, 0.6), length=length)
    return with_group(scenario, "calls", controller_credentials=window)


def _worker_credentials(rng: random.Random, scenario: Scenario) -> Scenario:
    window = Window(begin=scenario.busy_time * rng.uniform(0, 0.6), length=_HOUR * rng.uniform(0.1, 3))
    return with_group(scenario, "calls", worker_credentials=window, worker_share=rng.choice((0.3, 1.0)))


def _late_queues(rng: random.Random, scenario: Scenario) -> Scenario:
    return with_group(scenario, "calls", queue_delay=timedelta(seconds=rng.choice((2, 20, 100, 300))))


def _hidden_ends(rng: random.Random, scenario: Scenario) -> Scenario:
    scenario = attrs.evolve(scenario, faults=attrs.evolve(scenario.faults, earlier_run=rng.random() < 0.5))
    return with_group(scenario, "calls", hidden_end=timedelta(minutes=rng.choice((0.2, 2, 8))))


DIALS = (
    Dial(
        name="listing outage",
        shows="the limit on the total cost, and the end of a run, need no listing",
        turn_on=_listing_outage,
    ),
    Dial(
        name="silent zone",
        shows="an instance in a zone that does not answer is not taken for gone",
        turn_on=_silent_zone,
    ),
    Dial(
        name="slow call",
        shows="no decision waits for a call that takes an hour, and its late answer is not taken for the present",
        turn_on=_slow_call,
    ),
    Dial(
        name="expired credentials",
        shows="a run waits for credentials that worked before",
        turn_on=_credentials,
    ),
    Dial(
        name="expired worker credentials",
        shows="instances that can no longer use the queues are replaced",
        turn_on=_worker_credentials,
    ),
    Dial(
        name="late queues",
        shows="a queue that was just created may not exist yet, which ends no run",
        turn_on=_late_queues,
    ),
    Dial(
        name="hidden ends",
        shows="a termination that listings do not show yet is repeated without harm",
        turn_on=_hidden_ends,
    ),
)
