"""Causes of an aborted run: a reason that the controller gives must be true of the simulated world."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

from cloud_tasks.model import Money
from simulated_cloud.cloud import CloudInstance, EndCause, SimulatedCloud
from simulated_cloud.dials import OFF
from simulated_cloud.scenario import Scenario
from simulated_cloud.worker import slowness

__all__ = ["has_cause"]

_STARTS = "preemption at boot"
"""Dial that requires to tell failed starts from other ends."""

_LOST = (EndCause.PREEMPTED, EndCause.CANCELED)
"""Causes by which the provider ends an instance."""
_COMMITMENT = timedelta(minutes=20)
"""Time whose price may be left of a budget that pays for no more instances: start, checks, and termination."""
_TASKS = 8
"""Tasks in a row whose price may be left, too: the mean of the first few may be much longer than that of all."""


class _Causes:
    """The world at the end of a run.

    Args:
        limit: Limit on the total cost.
        unseen: Time in which ends of instances could not be seen.
        unanswered: What is booked for launches without an answer, in US dollars.
        unseen_price: Price per hour of the instances whose end no listing can have shown, in US dollars.
    """

    def __init__(
        self,
        scenario: Scenario,
        cloud: SimulatedCloud,
        limit: Money | None,
        *,
        is_shared: bool,
        unseen: timedelta,
        unanswered: float,
        unseen_price: float,
    ) -> None:
        self._is_shared = is_shared
        self._unseen = unseen
        self._unanswered = unanswered
        self._unseen_price = unseen_price
        self._scenario = scenario
        self._cloud = cloud
        self._limit = limit

    def of_budget(self) -> bool:
        if self._limit is None:
            return False
        instances = self._cloud.all_instances.values()
        slowest = max((slowness(self._scenario, i.offer.instance_type, i.slots) for i in instances), default=1.0)
        span = _COMMITMENT + self._scenario.mean_task_time * slowest * _TASKS + self._booked_unseen()
        dearest = max((float(i.offer.price_per_hour.usd) for i in instances), default=1.0)
        # A price that has risen is booked until the end of its instance, also when it falls.
        highest = (
            self._scenario.faults.money.max_rise if self._scenario.faults.money.price_interval is not None else 1.0
        )
        per_hour = max(dearest, self._cloud.bill.peak, self._unseen_price) * highest
        rest = per_hour * (span / timedelta(hours=1))
        booked = float(self._cloud.bill.total().usd) * highest + self._booked_until_seen() + self._unanswered
        return float(self._limit.usd) - booked <= rest

    def _booked_unseen(self) -> timedelta:
        """Return the time that may have been booked although nothing was charged, since no controller could see it."""
        faults = self._scenario.faults
        # Waiting is booked if the provider does not show it. A launch is booked until its answer, which takes an hour
        # now and then; if a crash has lost the answer, until the next run.
        hours = 24 * bool(faults.launches.pending and not faults.launches.shows_pending)
        hours += 3 * bool(faults.calls.slow_call)
        return self._unseen + timedelta(hours=hours, minutes=faults.crashes)

    def _booked_until_seen(self) -> float:
        """Return what is booked for the ends of all instances, each until the pass that sees it, in US dollars."""
        scenario = self._scenario
        lag = scenario.scaling_check_interval * 2 + scenario.faults.listing_lag + scenario.faults.calls.hidden_end
        ended = (i for i in self._cloud.all_instances.values() if i.is_ours and i.end_cause is not None)
        return sum(float(i.offer.price_per_hour.usd) for i in ended) * (lag / timedelta(hours=1))

    def of_failed_starts(self) -> bool:
        return self._silent_channel() or any(self._is_failed_start(i) for i in self._cloud.all_instances.values())

    def _is_failed_start(self, instance: CloudInstance) -> bool:
        faults = self._scenario.faults
        slow = (
            faults.slow_boot
            or faults.launches.restart
            or (faults.launches.pending and not faults.launches.shows_pending)
        )
        return instance.is_ours and (instance.script_failed or bool(slow) or self._is_excused(instance))

    def of_ends(self) -> bool:
        ended = [i for i in self._cloud.all_instances.values() if i.is_ours and i.end_cause is not None]
        return self._silent_channel() or any(
            i.end_cause is not EndCause.PREEMPTED or self._is_excused(i) for i in ended
        )

    def _is_excused(self, instance: CloudInstance) -> bool:
        """Return whether an instance ended in a way that the controller takes for a failed start, as yet.

        A preemption, or a termination by an earlier run that could not record it.
        """
        is_known = _STARTS in OFF and _STARTS not in self._scenario.dials
        return is_known and instance.end_cause in (EndCause.PREEMPTED, EndCause.TERMINATED)

    def _silent_channel(self) -> bool:
        """Return whether heartbeats may not have arrived."""
        faults = self._scenario.faults
        return bool(self._is_shared or faults.outages or faults.calls.queue_delay or faults.calls.worker_credentials)

    def of_preemptions(self) -> bool:
        return self._silent_channel() or any(i.end_cause in _LOST for i in self._cloud.all_instances.values())

    def of_cancellations(self) -> bool:
        return any(i.end_cause in _LOST for i in self._cloud.all_instances.values())

    def of_refusals(self) -> bool:
        return self._scenario.faults.launches.refusals is not None

    def of_rival(self) -> bool:
        return any(i.is_rival for i in self._cloud.all_instances.values())


_REASONS: tuple[tuple[re.Pattern[str], Callable[[_Causes], bool]], ...] = (
    (re.compile("max_total_cost"), _Causes.of_budget),
    (re.compile("exited before the worker started|no heartbeat"), _Causes.of_failed_starts),
    (re.compile("terminated before any task finished"), _Causes.of_ends),
    (re.compile("were preempted before any task finished"), _Causes.of_preemptions),
    (re.compile("were canceled while they were pending"), _Causes.of_cancellations),
    (re.compile("DENIED|may not launch|refused"), _Causes.of_refusals),
    (re.compile("another (controller|run|owner)|taken over|somebody-else"), _Causes.of_rival),
)


def has_cause(
    reason: str,
    scenario: Scenario,
    cloud: SimulatedCloud,
    limit: Money | None,
    *,
    is_shared: bool,
    unseen: timedelta,
    unanswered: float,
    unseen_price: float,
) -> bool:
    """Return whether the world gave cause for an abort with this reason; False for a reason that no fault explains.

    Args:
        is_shared: Whether a second controller may have received heartbeats.
        unseen: Time in which no controller could see and record the end of an instance.
        unanswered: What is booked for launches without an answer, in US dollars.
        unseen_price: Price per hour of the instances whose end no listing can have shown, in US dollars.
    """
    causes = _Causes(
        scenario,
        cloud,
        limit,
        is_shared=is_shared,
        unseen=unseen,
        unanswered=unanswered,
        unseen_price=unseen_price,
    )
    return any(pattern.search(reason) and is_true(causes) for pattern, is_true in _REASONS)
