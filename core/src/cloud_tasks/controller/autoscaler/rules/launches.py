"""Rule about new instances.

Invariants, each with a test:

1. Launches never exceed a limit, counting every intent, and every instance that is pending or may still be billed.
2. There are never more instances than the remaining tasks can fill.
3. A refused scope is avoided while its block lasts; the best offer outside of it is launched at once.
4. Where the provider selects among offers, the limits cover whichever it takes. Elsewhere, among zones that differ in
   nothing else, past refusals and the spread over zones decide.
5. After several instances in a row that achieved nothing, launches pause, for longer each time.
6. Instances are not replaced without end: not after several of their workers, and more than work, ended with an error.
7. No more instances are requested than the provider lets wait at a time (`ComputeTraits.max_pending`).
8. Nothing is launched while a queue refuses the controller permanently.
9. A canary runs alone until it finishes a task; after a launch that certainly failed, one launch at a time is tried.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from cloud_tasks.controller.autoscaler.actions import Abort, Action, Launch, Warn
from cloud_tasks.controller.autoscaler.rules.budget import budget_used_up, drain_time
from cloud_tasks.controller.autoscaler.rules.fleet_view import FleetView
from cloud_tasks.controller.autoscaler.rules.lifetimes import is_draining, lifetime_of
from cloud_tasks.controller.autoscaler.state import Observation
from cloud_tasks.model import Money, Offer, ProvisioningModel
from cloud_tasks.quantities import format_moment
from cloud_tasks.selection import (
    COMMITMENT,
    FleetTotals,
    RankedOffer,
    additional_instances,
    alternatives,
    most_expensive,
    same_offer_other_zones,
    spread_over_zones,
)

__all__ = ["launch_missing"]

_MAX_FUTILE, _MAX_PREEMPTED = 3, 6
"""Instances that end, or are preempted, in a row before any task finishes, from which on launches pause."""
_FIRST_PAUSE = timedelta(seconds=15)
"""Each further such instance doubles it; a cloud bills an instance for a minute at least."""
_LONGEST_PAUSE = timedelta(minutes=10)
_MAX_FAILED_WORKERS = 5
"""Number of workers that ended with an error up to which their instances are replaced."""


def launch_missing(view: FleetView) -> Sequence[Action]:
    """Launch the missing instances, of one offer: a refusal leads to another decision, with its block, at once."""
    seen = view.observation
    if not seen.remaining or seen.draining or _waits_for_canary(view) or _waits_for_probe(view):
        return ()
    if pause := _pause(seen):
        return pause
    offers = same_offer_other_zones(_available(seen))
    if not offers:
        return _warn_all_refused(view)
    count = _missing(view, offers[0])
    if count <= 0:
        return _abort_unaffordable(view)
    count = min(count, _room_to_wait(view))
    if count <= 0:
        return ()
    if seen.queue_problem:
        return [Warn(key="queue-refused", message=f"No more instances are launched: {seen.queue_problem}")]
    if _workers_keep_failing(seen):
        return _without_replacement(view)
    others = _alternatives(view, offers[0], count) if seen.policy.provider_chooses else ()
    count, lifetime = lifetime_of(view, most_expensive(offers[0], others).offer.price_per_hour, count)
    if count <= 0:
        return _abort_unaffordable(view)
    lifetime = _allowed_lifetime(lifetime, (offers[0], *others))
    is_single = _is_canary_phase(seen) or seen.launch_failures is not None
    count_now = 1 if is_single else count
    if seen.policy.provider_chooses:
        return [Launch(ranked=offers[0], count=count_now, alternatives=others, lifetime=lifetime)]
    return _spread(view, offers, count_now, lifetime)


def _pause(seen: Observation) -> Sequence[Action]:
    """Return a warning instead of launches for a time that grows with each instance that achieved nothing."""
    failed = seen.failed_instances
    kinds = (
        (failed.without_progress, _MAX_FUTILE, "ended", failed.reason),
        (failed.preempted, _MAX_PREEMPTED, "were preempted", ""),
        (failed.canceled, _MAX_FUTILE, "were canceled while pending", failed.cancel_reason),
    )
    count, most, what, reason = max(kinds, key=lambda kind: kind[0] - kind[1])
    extra = count - most
    if extra < 0 or failed.last_end is None:
        return ()
    until = failed.last_end + min(_FIRST_PAUSE * 2 ** min(extra, 16), _LONGEST_PAUSE)
    if seen.now >= until:
        return ()
    why = f" ({reason})" if reason else ""
    moment = format_moment(until, now=seen.now)
    message = f"{count} instances in a row {what} before any task finished{why}; next launch at {moment}"
    return [Warn(key=f"pause-{extra}", message=message)]


def _workers_keep_failing(seen: Observation) -> bool:
    """Return whether so many workers ended with an error that another instance would most likely fail, too."""
    working = sum(own.failures * 2 < own.ends for own in seen.attempt_ends.values())
    return seen.failed_workers > max(_MAX_FAILED_WORKERS, working)


def _without_replacement(view: FleetView) -> Sequence[Action]:
    """Launch nothing more; without any instance left, end the run."""
    seen = view.observation
    reason = f"the workers of {seen.failed_workers} instances ended with an error: {seen.worker_error}"
    if not view.held:
        return [Abort(reason=reason, show_console=False)]
    return [Warn(key="failing-workers", message=f"No more instances are launched: {reason}")]


def _is_canary_phase(seen: Observation) -> bool:
    return seen.policy.canary and seen.tasks_finished == 0


def _waits_for_canary(view: FleetView) -> bool:
    return _is_canary_phase(view.observation) and bool(view.held)


def _waits_for_probe(view: FleetView) -> bool:
    """Return whether launches failed and the outcome of another one is open."""
    return view.observation.launch_failures is not None and any(i.instance_id is None for i in view.held)


def _room_to_wait(view: FleetView) -> int:
    """Return how many more instances may be pending; a launch without an answer counts as one that is."""
    limit = view.observation.policy.max_pending
    waiting = len(view.pending) + sum(i.instance_id is None for i in view.held)
    return sys.maxsize if limit is None else limit - waiting


def _available(seen: Observation) -> Sequence[RankedOffer]:
    """Return the offers that no block covers, best first; on-demand only as a fallback where spot is wanted.

    Until a launch succeeds, those that only a person can permit come last: a short block of the best offers would
    otherwise end before slow calls have tried the rest.
    """
    blocks = [block for block in seen.blocks if block.until > seen.now]
    free = [ranked for ranked in seen.offers if not any(block.covers(ranked.offer) for block in blocks)]
    if seen.refused_since is not None:
        free.sort(key=lambda ranked: seen.needs_action(ranked.offer))
    spot = [ranked for ranked in free if ranked.offer.provisioning_model is ProvisioningModel.SPOT]
    if any(ranked.offer.provisioning_model is ProvisioningModel.SPOT for ranked in seen.offers):
        return spot or (free if seen.policy.spot_fallback else [])
    return free


def _warn_all_refused(view: FleetView) -> Sequence[Action]:
    seen = view.observation
    if not seen.offers or view.held:
        return ()
    until = min((block.until for block in seen.blocks), default=seen.now)
    moment = format_moment(until, now=seen.now)
    return [Warn(key="all-blocked", message=f"All offers are refused; next attempt at {moment}")]


def _abort_unaffordable(view: FleetView) -> Sequence[Action]:
    """With nothing running, waiting changes neither the budget nor the price of the next instance."""
    seen = view.observation
    if view.held or seen.policy.limits.max_total_cost is None:
        return ()
    cheapest = min(ranked.offer.price_per_hour for ranked in _available(seen))
    return [budget_used_up(seen, needed=cheapest * ((COMMITMENT + drain_time(seen)) / timedelta(hours=1)))]


def _allowed_lifetime(lifetime: timedelta | None, offers: Sequence[RankedOffer]) -> timedelta | None:
    """Return the lifetime as far as the provider allows it for all of these offers."""
    limits = [ranked.offer.instance_type.max_lifetime for ranked in offers]
    return min((each for each in (lifetime, *limits) if each is not None), default=None)


def _missing(view: FleetView, ranked: RankedOffer) -> int:
    """Return how many instances of this offer are missing and within every limit."""
    seen, held = view.observation, view.held
    return additional_instances(
        limits=seen.policy.limits,
        ranked=ranked,
        remaining_tasks=seen.remaining,
        current=FleetTotals(
            instances=len(held),
            vcpus=sum(i.vcpus for i in held),
            slots=sum(i.slots for i in held),
            draining_slots=sum(i.slots for i in held if is_draining(seen, i)),
            price_per_hour=sum((i.price_per_hour for i in held), Money.zero()),
        ),
        accrued=seen.accrued_cost,
        commitment=COMMITMENT + drain_time(seen),
    )


def _alternatives(view: FleetView, best: RankedOffer, count: int) -> tuple[RankedOffer, ...]:
    """Return the offers that the provider may select instead, all of them within the limits."""
    others = alternatives(_available(view.observation))
    if _missing(view, most_expensive(best, others)) < count:
        return tuple(other for other in others if other.offer.price_per_hour <= best.offer.price_per_hour)
    return others


def _spread(view: FleetView, offers: Sequence[RankedOffer], count: int, lifetime: timedelta | None) -> Sequence[Action]:
    """Return launches of one offer in several zones: those with fewer refusals first, evenly among them."""
    refusals = view.observation.refusals

    def refusals_of(offer: Offer) -> int:
        return sum(block.covers(offer) for block in refusals)

    by_zone = spread_over_zones(offers, count, held=Counter(i.zone for i in view.held), refusals=refusals_of)
    return [Launch(ranked=ranked, count=number, lifetime=lifetime) for ranked, number in by_zone]
