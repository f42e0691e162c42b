"""The decision core: what to do next, given all that is known. Pure: no clock, no lock, no call.

Invariants, each with a test:

1. A failed listing means "unknown": nothing is launched, terminated or written off because of it.
2. Launches never take the fleet past a limit, counting every intent and every instance that may still be billed.
3. Never more instances than the remaining tasks can fill; idle surplus goes after the termination delay.
4. Silence is judged only over time in which we listened: some silent, they are replaced; all silent, the event
   channel is suspected first; none ever spoke, the startup script is taken to be broken.
5. What carries our label and is unknown to our records is terminated.
6. A refused scope is avoided while its block lasts; the best offer outside of it is taken at once.
7. What has been spent never passes the limit on the total cost by more than one look's worth. Before that nothing is
   bought that the rest of the budget does not cover, and no task is given out that it would cut short.
8. Launches that fail for certain end the run once nothing runs, instead of being repeated without end.
9. Where the provider chooses among offers, the limits bear whichever it takes. Elsewhere, between zones that differ in
   nothing else, refusals and spread decide.
9. An instance beyond the maximum lifetime is terminated where the provider does not do it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from cloud_tasks.controller.autoscaler.actions import (
    Abort,
    Action,
    Drain,
    Finish,
    ForgetIntent,
    Launch,
    MarkEnded,
    Requeue,
    Terminate,
    Warn,
)
from cloud_tasks.controller.autoscaler.state import FleetInstance, Observation
from cloud_tasks.model import InstanceState, Money, Offer, Purchase
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

__all__ = ["decide"]

_GONE = (None, InstanceState.TERMINATED)
_ALIVE = (InstanceState.STARTING, InstanceState.RUNNING)

_CHANNEL_PATIENCE = 3
"""All silent: after so many keep-alive time-outs the instances are replaced all the same."""


def decide(seen: Observation) -> tuple[Action, ...]:
    """The actions that this observation calls for; the caller carries out all of them, in order."""
    if seen.remaining == 0 and seen.all_loaded:
        return (Finish(),)
    if seen.fleet is None:
        return (Warn(key="listing", message="The instances could not be listed; nothing is changed until they can be"),)
    actions: list[Action] = []
    actions += _reconcile(seen, seen.fleet)
    actions += _expired(seen, seen.fleet)
    doomed = {action.instance_id for action in actions if isinstance(action, (Terminate, MarkEnded))}
    alive = [i for i in seen.fleet if i.state in _ALIVE and i.recorded and i.instance_id not in doomed]
    ended = [i for i in seen.fleet if i.recorded and i.state in _GONE and i.instance_id in doomed]
    abort = _too_expensive(seen) or _drained(seen, alive) or _unlaunchable(seen) or _hopeless(seen, alive, ended)
    if abort is not None:
        return (*actions, abort)
    silent = _silent(seen, alive)
    actions += silent
    doomed |= {action.instance_id for action in silent if isinstance(action, Terminate)}
    alive = [i for i in alive if i.instance_id not in doomed]
    actions += _surplus(seen, alive)
    drain = _drain(seen, alive)
    if drain or seen.draining:
        return (*actions, *drain)
    actions += _stranded(seen, alive)
    actions += _growth(seen, seen.fleet)
    return tuple(actions)


def _reconcile(seen: Observation, fleet: Sequence[FleetInstance]) -> list[Action]:
    """Bring records and listing together."""
    actions: list[Action] = []
    for instance in fleet:
        age = seen.now - instance.launched_at
        if instance.instance_id is None:
            decided = not seen.policy.listing_lag and not instance.maybe_unlisted
            if instance.answered and (decided or age > seen.policy.intent_timeout):
                actions.append(
                    ForgetIntent(
                        client_token=instance.client_token, reason="launch never answered, instance never seen"
                    )
                )
        elif instance.state in _GONE:
            if instance.recorded and (instance.state is not None or not _maybe_unlisted(seen, instance)):
                actions.append(MarkEnded(instance_id=instance.instance_id, reason="it ended by itself"))
        elif instance.given_up:
            actions.append(Terminate(instance_id=instance.instance_id, reason="its launch had been given up"))
        elif not instance.recorded:
            actions.append(Terminate(instance_id=instance.instance_id, reason="it is unknown to this job's records"))
        elif instance.state is InstanceState.STOPPED:
            actions.append(
                Terminate(instance_id=instance.instance_id, reason="it was stopped, its remains are removed")
            )
    return actions


def _expired(seen: Observation, fleet: Sequence[FleetInstance]) -> list[Action]:
    """Terminate instances that are older than the maximum lifetime."""
    limit = seen.policy.max_lifetime
    if limit is None:
        return []
    return [
        Terminate(instance_id=i.instance_id, reason=f"its maximum lifetime is over ({_seconds(limit)})")
        for i in fleet
        if i.instance_id is not None and i.recorded and not i.given_up and i.state in _ALIVE
        if seen.now - i.launched_at > limit
    ]


def _silent_for(seen: Observation, instance: FleetInstance) -> timedelta | None:
    """How long we listened without hearing from it; None while we do not listen."""
    if seen.listening_since is None:
        return None
    since = max(instance.last_heard or instance.launched_at, seen.listening_since)
    return seen.now - since


def _is_silent(seen: Observation, instance: FleetInstance) -> bool:
    spoke = instance.last_heard is not None
    patience = seen.policy.keepalive_timeout if spoke else seen.policy.startup_timeout
    silent_for = _silent_for(seen, instance)
    return patience is not None and silent_for is not None and silent_for > patience


def _too_expensive(seen: Observation) -> Abort | None:
    """The hard stop. The soft one comes before it: nothing is bought that the rest of the budget does not cover, then
    no more tasks are given out (`_drain`)."""
    limit = seen.policy.limits.max_total_cost
    if limit is None or seen.accrued_cost < limit:
        return None
    return _used_up(seen)


def _used_up(seen: Observation) -> Abort:
    limit = seen.policy.limits.max_total_cost
    return Abort(
        reason=f"The job has cost {seen.accrued_cost}, its limit is {limit} (max_total_cost) and does not pay "
        "for more; a higher limit lets it be continued",
        show_console=False,
    )


def _drain_time(seen: Observation) -> timedelta:
    """How long before the hard stop no task is begun any more: what a task takes, as far as that is known."""
    return seen.task_time or timedelta(0)


def _drain(seen: Observation, alive: Sequence[FleetInstance]) -> list[Action]:
    """Give out no more tasks once those that begin now would be cut short by the hard stop."""
    limit, span = seen.policy.limits.max_total_cost, _drain_time(seen)
    if limit is None or seen.draining or not span or not alive:
        return []
    price = sum((i.price_per_hour for i in alive), Money.zero())
    if seen.accrued_cost + price * (span.total_seconds() / 3600) < limit:
        return []
    reason = f"{seen.accrued_cost} of {limit} (max_total_cost) are spent, and the rest is for the tasks that run"
    return [Drain(reason=reason)]


def _drained(seen: Observation, alive: Sequence[FleetInstance]) -> Abort | None:
    """The end of a drain: what ran has ended."""
    return _used_up(seen) if seen.draining and all(_has_done(seen, i) for i in alive) else None


def _unlaunchable(seen: Observation) -> Abort | None:
    """End a run whose launches fail for certain, once no instance is left that could finish tasks."""
    failures = seen.launch_failures
    if failures is None or failures.rounds < seen.policy.max_failed_launches or _held(seen, seen.fleet or ()):
        return None
    reason = f"No instance could be launched, {failures.rounds} attempts failed: {failures.message}"
    return Abort(reason=reason, show_console=False, bad_input=failures.bad_input)


def _held(seen: Observation, fleet: Sequence[FleetInstance]) -> list[FleetInstance]:
    """Return whatever may still be billed, even what was just given up: its end is not certain yet."""
    return [i for i in fleet if i.state not in _GONE or i.instance_id is None or _maybe_unlisted(seen, i)]


def _hopeless(seen: Observation, alive: Sequence[FleetInstance], ended: Sequence[FleetInstance]) -> Abort | None:
    """Whether buying more instances would only waste money; ``ended`` are those found gone just now."""
    policy = seen.policy
    if not seen.ever_spoke:
        mute = [*(i for i in alive if _is_silent(seen, i)), *ended]
        failed = seen.failed_starts + len(mute)
        others = len(alive) + len(ended) - len(mute)
        # One alone may have been bad luck.
        if failed >= max(2, min(policy.max_failed_starts, failed + others)):
            return Abort(
                reason=f"No instance ever reported anything ({failed} of them ended or stayed silent): "
                "the startup script is probably broken",
                console_of=mute[0].instance_id if mute else None,
            )
    if seen.futile >= policy.max_futile_instances:
        return Abort(reason=f"The last {seen.futile} instances ended without a single task being finished")
    return None


def _silent(seen: Observation, alive: Sequence[FleetInstance]) -> list[Action]:
    """Replace those that fell silent, unless all did: then the channel or we ourselves are to blame first."""
    silent = [i for i in alive if _is_silent(seen, i)]
    if not silent:
        return []
    timeout = seen.policy.keepalive_timeout
    if len(silent) == len(alive) and seen.ever_spoke and timeout is not None:
        patient = [i for i in silent if (_silent_for(seen, i) or timedelta(0)) <= timeout * _CHANNEL_PATIENCE]
        if patient:
            message = f"All {len(alive)} instances are silent; the event queue is suspected, nothing is terminated yet"
            return [Warn(key="all-silent", message=message)]
    return [
        Terminate(instance_id=i.instance_id, reason=f"nothing was heard from it for {_seconds(_silent_for(seen, i))}")
        for i in silent
        if i.instance_id is not None
    ]


def _seconds(span: timedelta | None) -> str:
    return f"{(span or timedelta(0)).total_seconds():.0f} s"


def _surplus(seen: Observation, alive: Sequence[FleetInstance]) -> list[Action]:
    """Let idle instances go while the others have slots enough for all that remains."""
    if seen.draining:
        idle = [i.instance_id for i in alive if i.instance_id is not None and _has_done(seen, i)]
        return [Terminate(instance_id=i, reason="no more tasks are given out, the budget is used up") for i in idle]
    if seen.surplus_since is None or seen.now - seen.surplus_since < seen.policy.termination_delay:
        return []
    actions: list[Action] = []
    capacity = sum(i.slots for i in alive)
    for instance in sorted(alive, key=lambda i: (i.price_per_hour / max(i.slots, 1)).usd, reverse=True):
        if instance.instance_id is None or capacity - instance.slots < seen.remaining:
            continue
        if _idle(seen, instance):
            capacity -= instance.slots
            actions.append(Terminate(instance_id=instance.instance_id, reason="no task is left for it"))
    return actions


def _has_done(seen: Observation, instance: FleetInstance) -> bool:
    """Whether it will do nothing more, once no more tasks are given out."""
    return instance.last_heard is None or _idle(seen, instance)


def _idle(seen: Observation, instance: FleetInstance) -> bool:
    if instance.running_tasks or instance.last_heard is None:
        return False
    quiet_since: datetime = instance.last_busy or instance.launched_at
    return seen.now - quiet_since >= seen.policy.termination_delay


def _stranded(seen: Observation, alive: Sequence[FleetInstance]) -> list[Action]:
    """Send again what the store still waits for and the queue does not hold, by its own word or by all signs.

    A message may be gone for good: a worker that said "another attempt" died before it had sent it, and the message of
    the attempt before was taken for the end of the task.
    """
    if not seen.all_loaded:
        return []
    since = seen.queue_empty_since
    if since is not None and seen.now - since >= seen.policy.stranded_after:
        reason = f"the queue has been empty for {_seconds(seen.now - since)} with {seen.remaining} tasks to go"
        return [Requeue(reason=reason)]
    idle_since = _all_idle_since(seen, alive)
    if seen.queue_visible or idle_since is None:
        return []
    # Workers whose idle limit is short come and go: what the earlier ones saw counts too.
    span = seen.now - idle_since + seen.idle_before
    if span < seen.policy.idle_after:
        return []
    return [Requeue(reason=f"no worker has found a task for {_seconds(span)} with {seen.remaining} tasks to go")]


def _all_idle_since(seen: Observation, alive: Sequence[FleetInstance]) -> datetime | None:
    """Since when no worker has had a task although one was there to take it; None while that is not so."""
    there = [i for i in alive if i.last_heard is not None]
    if not there or seen.listening_since is None or any(i.running_tasks for i in alive):
        return None
    signs = [i.last_busy for i in seen.fleet or () if i.last_busy is not None]
    longest = min(i.last_busy or i.launched_at for i in there)
    return max(longest, seen.listening_since, seen.requeued_at or longest, *signs)


def _growth(seen: Observation, fleet: Sequence[FleetInstance]) -> list[Action]:
    """Buy what is missing, of the best offers that nothing blocks."""
    held = _held(seen, fleet)
    totals = FleetTotals(
        instances=len(held),
        vcpus=sum(i.vcpus for i in held),
        slots=sum(i.slots for i in held),
        price_per_hour=sum((i.price_per_hour for i in held), Money.zero()),
    )
    canary = seen.policy.canary and seen.tasks_finished == 0
    # After a launch that failed for certain, one at a time probes whether anything has changed.
    probes = seen.launch_failures is not None
    if (canary and totals.instances >= 1) or (probes and any(i.instance_id is None for i in held)):
        return []
    free = _free(seen)
    offers = same_offer_other_zones(free)
    if not offers:
        if seen.offers and totals.instances == 0:
            until = min((block.until for block in seen.blocks), default=seen.now)
            message = f"Every offer is refused for now; the next try is at {until:%H:%M:%S} UTC"
            return [Warn(key="all-blocked", message=message)]
        return []
    most = 1 if canary or probes else None
    # One kind of offer is bought at a time: a refusal brings the next observation, with its block, at once.
    count = _room(seen, offers[0], totals)
    if count > 0 and seen.policy.provider_chooses:
        others = alternatives(free)
        if _room(seen, most_expensive(offers[0], others), totals) < count:
            others = tuple(o for o in others if o.offer.price_per_hour <= offers[0].offer.price_per_hour)
        return [Launch(ranked=offers[0], count=most or count, alternatives=others)]
    if count > 0:
        held_in = Counter(i.zone for i in held)
        bought = spread_over_zones(offers, most or count, held=held_in, refusals=_refusals(seen))
        return [Launch(ranked=ranked, count=number) for ranked, number in bought]
    if totals.instances == 0 and seen.policy.limits.max_total_cost is not None:
        # With nothing running, waiting changes neither the budget nor the price of the next instance.
        return [_used_up(seen)]
    return []


def _room(seen: Observation, ranked: RankedOffer, totals: FleetTotals) -> int:
    """How many instances of this offer are missing and within every limit."""
    return additional_instances(
        limits=seen.policy.limits,
        ranked=ranked,
        remaining_tasks=seen.remaining,
        current=totals,
        accrued=seen.accrued_cost,
        commitment=COMMITMENT + _drain_time(seen),
    )


def _refusals(seen: Observation) -> Callable[[Offer], int]:
    return lambda offer: sum(block.covers(offer) for block in seen.refusals)


def _maybe_unlisted(seen: Observation, instance: FleetInstance) -> bool:
    """Launched so recently that the listing may not show it yet."""
    recent = seen.now - instance.launched_at <= seen.policy.listing_lag
    return instance.state is None and (recent or instance.maybe_unlisted)


def _free(seen: Observation) -> Sequence[RankedOffer]:
    """The offers that may be bought now, the best first; on demand only as a fallback where spot was asked for."""
    blocks = [block for block in seen.blocks if block.until > seen.now]
    free = [ranked for ranked in seen.offers if not any(block.covers(ranked.offer) for block in blocks)]
    spot = [ranked for ranked in free if ranked.offer.purchase is Purchase.SPOT]
    if any(ranked.offer.purchase is Purchase.SPOT for ranked in seen.offers):
        return spot or (free if seen.policy.spot_fallback else [])
    return free
