"""Check that an instance lives long enough for one attempt of a task."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cloud_tasks.config import JobConfig
from cloud_tasks.controller.launch.launch_request import seconds_of
from cloud_tasks.errors import InputError
from cloud_tasks.model import Money
from cloud_tasks.quantities import format_span
from cloud_tasks.selection import COMMITMENT, RankedOffer

__all__ = ["check_max_runtime"]

_LONGEST_HOURS = 1_000_000
_NOTHING = Money.zero()


def check_max_runtime(config: JobConfig, offers: Sequence[RankedOffer], *, spent: Money = _NOTHING) -> str:
    """Return a warning if no instance lives for the default ``max_runtime``; empty if one does.

    Args:
        spent: Cost of the job until now.

    Raises:
        InputError: The user set the time limit; or ``max_total_cost`` pays for too little time of any instance.
    """
    if offers and not spent:
        _check_budget(config, min(ranked.offer.price_per_hour for ranked in offers))
    problem, hint = _problem(config, offers, spent) if offers else ("", "")
    if not problem:
        return ""
    origin = config.origins.get("run.max_runtime")
    if origin is not None:
        raise InputError(f"run.max_runtime: {problem}", where=origin.place, hint=hint)
    return f"run.max_runtime: {problem}; longer tasks may be interrupted at the end of an instance"


def _check_budget(config: JobConfig, price: Money) -> None:
    """Refuse a limit on the total cost below that of the shortest lifetime for which an instance is launched."""
    least = price * (COMMITMENT.total_seconds() / 3600)
    limit = config.run.max_total_cost
    if limit is not None and limit < least:
        origin = config.origins.get("run.max_total_cost")
        raise InputError(
            f"run.max_total_cost: {limit.format(4)} pays for less than {format_span(COMMITMENT)} of an instance",
            where="" if origin is None else origin.place,
            hint=f"raise it to {least.format(4)} at least, or allow cheaper instances",
        )


def _problem(config: JobConfig, offers: Sequence[RankedOffer], spent: Money) -> tuple[str, str]:
    """Return why no instance lives long enough, with both values, and the remedy; empty texts if one does."""
    run, lifetime = config.run, config.max_lifetime
    wanted = seconds_of(run.max_runtime)
    start = seconds_of(run.keepalive_startup_timeout) or COMMITMENT
    if lifetime is not None and wanted + start >= lifetime:
        return (
            f"{format_span(wanted)} and up to {format_span(start)} for the start (keepalive_startup_timeout) are more "
            f"than an instance lives, {format_span(lifetime)} (max_lifetime)",
            "lower max_runtime or keepalive_startup_timeout, or raise max_lifetime",
        )
    limit, price = run.max_total_cost, min(ranked.offer.price_per_hour for ranked in offers)
    if limit is None or not price or spent >= limit:
        return "", ""
    paid = timedelta(hours=min(float((limit - spent).usd / price.usd), _LONGEST_HOURS))
    if wanted <= paid:
        return "", ""
    rest = f"{limit}" if not spent else f"the {(limit - spent).format(2)} that are left of {limit}"
    return (
        f"{format_span(wanted)} is more than {rest} (max_total_cost) pay for, {format_span(paid)} of one instance at "
        f"{price.format(4)} an hour",
        "lower max_runtime, or raise max_total_cost",
    )
