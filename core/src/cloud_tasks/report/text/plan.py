"""What a job would be run on: the ranking, why the rest is out, and what it comes to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

import attrs

from cloud_tasks.model import Headroom, Money
from cloud_tasks.report.text.formatting import counted, format_duration
from cloud_tasks.selection import Forecast, RankedOffer, Ranking, Rejected

__all__ = ["plan_dict", "render_forecast", "render_headroom", "render_offers", "render_rejected"]

_HEAD = ("Rank", "Instance Type", "Zone", "Purchase", "vCPUs", "Slots", "$/hour", "$/slot-hour", "Price age")
_TO_THE_RIGHT = frozenset({0, 4, 5, 6, 7, 8})


def render_offers(offers: Sequence[RankedOffer], *, now: datetime, most: int | None = None) -> str:
    """The offers as a table, best first.

    Args:
        now: UTC, for the age of the prices.
        most: How many rows to show at most.
    """
    shown = offers if most is None else offers[:most]
    rows = [_HEAD, *(_row(rank, ranked, now) for rank, ranked in enumerate(shown, start=1))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in _TO_THE_RIGHT else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    if len(shown) < len(offers):
        lines.append(f"... and {len(offers) - len(shown)} more offers")
    return "\n".join(lines)


def _row(rank: int, ranked: RankedOffer, now: datetime) -> tuple[str, ...]:
    offer = ranked.offer
    return (
        str(rank),
        offer.instance_type.name,
        offer.zone,
        offer.purchase.value,
        str(offer.instance_type.vcpus),
        str(ranked.slots),
        f"{offer.price_per_hour.usd:.6f}",
        f"{ranked.price_per_slot.usd:.6f}",
        format_duration(now - offer.priced_at),
    )


def render_rejected(rejected: Sequence[Rejected]) -> str:
    """One line for each type or offer that will not do, with the reason."""
    lines = [f"Rejected: {len(rejected)}"]
    for rejection in rejected:
        where = [rejection.zone or "", rejection.purchase.value if rejection.purchase else ""]
        note = ", ".join(part for part in where if part)
        lines.append(f"  {rejection.instance_type}{f' ({note})' if note else ''}: {rejection.reason}")
    return "\n".join(lines)


def render_forecast(
    found: Forecast, *, tasks: int | None, task_time: timedelta | None, max_total_cost: Money | None
) -> str:
    """What the best offer comes to, in a few lines."""
    return "\n".join(_forecast(found, tasks, task_time, max_total_cost))


def _forecast(
    found: Forecast, tasks: int | None, task_time: timedelta | None, max_total_cost: Money | None
) -> Iterator[str]:
    yield f"Tasks: {'unknown' if tasks is None else tasks}"
    if found.instances is None or found.price_per_hour is None:
        yield "Instances: as many as the tasks can fill (no limit holds)"
    else:
        yield f"Instances: {found.instances}, {counted(found.slots or 0, 'task')} at a time"
        yield f"Price per hour: {_exact(found.price_per_hour)}"
    if found.duration is None or found.cost is None or task_time is None:
        missing = [*([] if tasks is not None else ["the number of tasks"]), *([] if task_time else ["the task time"])]
        yield f"Duration and cost: unknown without {' and '.join(missing) or 'an instance'}"
        return
    yield f"Time per task: {task_time.total_seconds():.3f} seconds on average"
    yield f"Expected duration: about {format_duration(found.duration)}"
    yield f"Expected cost: about {_exact(found.cost)}"
    if found.exceeds_total_cost and max_total_cost is not None:
        yield f"WARNING: this is more than max_total_cost ({_exact(max_total_cost)}); the job would be stopped there"


def _exact(amount: Money) -> str:
    """Cents for what people think of as money, more places for what would round to nothing."""
    return amount.format(2) if not amount or amount >= Money(1) else amount.format(6)


def render_headroom(offers: Sequence[RankedOffer], headrooms: Sequence[Headroom | None], *, wanted: int | None) -> str:
    """What the quotas allow of the first offers; empty where the provider can tell of none.

    Args:
        wanted: How many instances of the first offer are planned; None: unknown.
    """
    lines = [
        f"  {ranked.offer.instance_type.name} ({ranked.offer.zone}, {ranked.offer.purchase.value}): "
        f"{counted(headroom.instances, 'more instance')}, limited by {headroom.limited_by}"
        for ranked, headroom in zip(offers, headrooms, strict=False)
        if headroom is not None
    ]
    if not lines:
        return ""
    text = "\n".join(["Quotas allow now:", *lines])
    first = headrooms[0]
    if first is None or wanted is None or wanted <= first.instances:
        return text
    return (
        f"{text}\nWARNING: {counted(wanted, 'instance')} are planned, {first.limited_by} allows {first.instances}; "
        "the rest would be of the next offers, or wait"
    )


def plan_dict(
    ranking: Ranking,
    found: Forecast | None,
    *,
    tasks: int | None,
    task_time: timedelta | None,
    now: datetime,
    headrooms: Sequence[Headroom | None] = (),
) -> dict[str, Any]:
    """The whole plan for JSON; amounts in US dollars as text, so that none is rounded."""
    return {
        "tasks": tasks,
        "task_time_seconds": None if task_time is None else task_time.total_seconds(),
        "forecast": None if found is None else _forecast_dict(found),
        "offers": [
            _offer_dict(ranked, now, headroom)
            for ranked, headroom in zip_longest(ranking.offers, headrooms[: len(ranking.offers)])
        ],
        "exceeds_quota": _exceeds_quota(found, headrooms),
        "rejected": [
            {
                "instance_type": rejection.instance_type,
                "zone": rejection.zone,
                "purchase": rejection.purchase.value if rejection.purchase else None,
                "reason": rejection.reason,
            }
            for rejection in ranking.rejected
        ],
        "warnings": list(ranking.warnings),
    }


def _exceeds_quota(found: Forecast | None, headrooms: Sequence[Headroom | None]) -> bool | None:
    first = headrooms[0] if headrooms else None
    return None if first is None or found is None or found.instances is None else found.instances > first.instances


def _forecast_dict(found: Forecast) -> dict[str, Any]:
    return {
        "instances": found.instances,
        "simultaneous_tasks": found.slots,
        "price_per_hour": _text(found.price_per_hour),
        "duration_seconds": None if found.duration is None else found.duration.total_seconds(),
        "cost": _text(found.cost),
        "exceeds_max_total_cost": found.exceeds_total_cost,
    }


def _offer_dict(ranked: RankedOffer, now: datetime, headroom: Headroom | None) -> dict[str, Any]:
    offer, kind = ranked.offer, ranked.offer.instance_type
    return {
        "instance_type": kind.name,
        "zone": offer.zone,
        "purchase": offer.purchase.value,
        "cpu_family": kind.cpu_family,
        "vcpus": kind.vcpus,
        "memory_gb": kind.memory_gb,
        "boot_disk_type": offer.boot_disk.disk_type,
        "boot_disk_gb": offer.boot_disk.size_gb,
        "slots": ranked.slots,
        "price_per_hour": _text(offer.price_per_hour),
        "price_per_slot_hour": _text(ranked.price_per_slot),
        "price_age_seconds": (now - offer.priced_at).total_seconds(),
        "speed": ranked.speed,
        "headroom": None if headroom is None else attrs.asdict(headroom),
    }


def _text(amount: Money | None) -> str | None:
    return None if amount is None else f"{amount.usd:f}"
