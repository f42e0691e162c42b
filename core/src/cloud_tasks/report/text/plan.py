"""Cost plan of a job: ranked offers, rejected ones with their reasons, forecast and quotas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.escape import terminal_text
from cloud_tasks.model import Headroom, Money
from cloud_tasks.quantities import counted, format_cost, format_duration
from cloud_tasks.selection import Forecast, RankedOffer, Ranking, Rejected
from cloud_tasks.tables import Column, render_table

__all__ = [
    "plan_dict",
    "render_command",
    "render_forecast",
    "render_headroom",
    "render_offers",
    "render_price",
    "render_rejected",
]

_Row = tuple[int, RankedOffer]
"""Rank, from 1, and offer."""


def render_offers(
    offers: Sequence[RankedOffer], *, now: datetime, maximum: int | None = None, width: int | None = None
) -> str:
    """Return the offers as a table, best first.

    Args:
        now: Current time (UTC), for the age of the prices.
        maximum: Maximum number of rows; None: all.
        width: Maximum width in characters; None: unlimited.
    """
    shown = offers if maximum is None else offers[:maximum]
    table = render_table(list(enumerate(shown, start=1)), _offer_columns(now), width=width)
    more = len(offers) - len(shown)
    return f"{table}\n... and {counted(more, 'more offer')}; --detail shows all" if more else table


def _offer_columns(now: datetime) -> tuple[Column[_Row], ...]:
    return (
        Column(name="rank", title="Rank", value=lambda row: row[0], align_right=True),
        Column(name="instance_type", title="Instance Type", value=lambda row: row[1].offer.instance_type.name),
        Column(name="zone", title="Zone", value=lambda row: row[1].offer.zone),
        Column(name="purchase", title="Provisioning", value=lambda row: row[1].offer.provisioning_model),
        Column(name="vcpus", title="vCPUs", value=lambda row: row[1].offer.instance_type.vcpus, align_right=True),
        Column(name="slots", title="Slots", value=lambda row: row[1].slots, align_right=True),
        Column(name="price", title="Price/hour", value=lambda row: row[1].offer.price_per_hour, align_right=True),
        Column(name="price_per_slot", title="Per slot", value=lambda row: row[1].price_per_slot, align_right=True),
        Column(
            name="age",
            title="Price age",
            value=lambda row: format_duration(now - row[1].offer.priced_at),
            align_right=True,
        ),
    )


_PARTS = {
    "cpu": "vCPUs",
    "memory": "memory",
    "local_ssd": "local SSD",
    "gpu": "GPUs",
    "boot_disk": "boot disk",
    "boot_disk_iops": "boot disk IOPS",
    "boot_disk_throughput": "boot disk throughput",
    "address": "public address",
    "surplus_credits": "surplus CPU credits",
}
"""Components of `PriceBreakdown`."""


def render_price(ranked: RankedOffer) -> str:
    """Return the components of the price of an offer, in a line; empty where it costs nothing."""
    parts = [f"{_PARTS[name]} {amount.format(6)}" for name, amount in ranked.offer.price.parts().items()]
    return f"Price per hour of {ranked.offer.instance_type.name}: {', '.join(parts)}" if parts else ""


def render_rejected(rejected: Sequence[Rejected]) -> str:
    """Return one line for each rejected instance type or offer, with the reason."""
    lines = [f"Rejected: {len(rejected):,}" if rejected else "Rejected: none"]
    for rejection in rejected:
        scope = [rejection.zone or "", rejection.provisioning_model.value if rejection.provisioning_model else ""]
        note = ", ".join(part for part in scope if part)
        lines.append(f"  {rejection.instance_type}{f' ({note})' if note else ''}: {rejection.reason}")
    return "\n".join(lines)


def render_forecast(
    found: Forecast, *, tasks: int | None, task_time: timedelta | None, max_total_cost: Money | None
) -> str:
    """Return number of instances, duration and cost with the best offer, a line each."""
    return "\n".join(_forecast(found, tasks, task_time, max_total_cost))


def _forecast(
    found: Forecast, tasks: int | None, task_time: timedelta | None, max_total_cost: Money | None
) -> Iterator[str]:
    yield f"Tasks: {'unknown' if tasks is None else f'{tasks:,}'}"
    if found.instances is None or found.price_per_hour is None:
        yield "Instances: as many as the tasks fill (no limit applies)"
    else:
        yield f"Instances: {found.instances:,}, {counted(found.slots or 0, 'task')} at a time"
        yield f"Price per hour: {format_cost(found.price_per_hour, unit=Money(1))}"
    if found.duration is None or found.cost is None or task_time is None:
        missing = [*([] if tasks is not None else ["the number of tasks"]), *([] if task_time else ["the task time"])]
        yield f"Duration and cost: unknown without {' and '.join(missing) or 'an instance'}"
        return
    yield f"Mean time per task: {format_duration(task_time, precise=True)}"
    yield f"Expected duration: about {format_duration(found.duration)}"
    yield f"Expected cost: about {format_cost(found.cost)}"
    if found.exceeds_total_cost and max_total_cost is not None:
        limit = format_cost(max_total_cost)
        yield f"Warning: this is more than max_total_cost ({limit}); the job would be stopped at that cost"


def render_headroom(offers: Sequence[RankedOffer], headrooms: Sequence[Headroom | None], *, wanted: int | None) -> str:
    """Return how many instances the quotas allow of the first offers; empty where the provider reports none.

    Args:
        wanted: Planned number of instances of the first offer; None: unknown.
    """
    lines = [
        f"  {ranked.offer.instance_type.name} ({ranked.offer.zone}, {ranked.offer.provisioning_model.value}): "
        f"{counted(headroom.instances, 'more instance')}, limited by {headroom.limited_by}"
        for ranked, headroom in zip(offers, headrooms, strict=False)
        if headroom is not None
    ]
    if not lines:
        return ""
    text = "\n".join(["Quotas currently allow:", *lines])
    first = headrooms[0]
    if first is None or wanted is None or wanted <= first.instances:
        return text
    planned = f"{counted(wanted, 'instance')} {'is' if wanted == 1 else 'are'} planned"
    return (
        f"{text}\nWarning: {planned}, {first.limited_by} allows {first.instances}; "
        "the others would use the next offers, or wait"
    )


def render_command(command: str, *, shell: str | None, folder: Path | None) -> str:
    """Return lines about the shell command of each task.

    Args:
        shell: ``run.shell``.
        folder: Folder in which it starts; None for one on the instance.
    """
    lines = terminal_text(command).splitlines() or [""]
    place = "an instance, where its relative paths are, too" if folder is None else str(folder)
    return "\n".join(
        [
            f"Command: {lines[0]}",
            *(f"         {line}" for line in lines[1:]),
            f"Shell:   {'sh' if shell == 'sh' else 'bash -euo pipefail'}",
            f"Folder:  {place}",
        ]
    )


def plan_dict(
    ranking: Ranking,
    found: Forecast | None,
    *,
    command: str | None = None,
    tasks: int | None,
    task_time: timedelta | None,
    now: datetime,
    headrooms: Sequence[Headroom | None] = (),
) -> dict[str, Any]:
    """Return the plan for `json.dumps`; amounts in US dollars as text, unrounded."""
    return {
        "tasks": tasks,
        "command": command,
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
                "purchase": rejection.provisioning_model.value if rejection.provisioning_model else None,
                "reason": rejection.reason,
            }
            for rejection in ranking.rejected
        ],
        "warnings": list(ranking.warnings),
        "notes": list(ranking.notes),
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
        "purchase": offer.provisioning_model.value,
        "cpu_family": kind.cpu_family,
        "vcpus": kind.vcpus,
        "memory_gb": kind.memory_gb,
        "boot_disk_type": offer.boot_disk.disk_type,
        "boot_disk_gb": offer.boot_disk.size_gb,
        "slots": ranked.slots,
        "price_per_hour": _text(offer.price_per_hour),
        "price_parts": {name: _text(amount) for name, amount in offer.price.parts().items()},
        "price_per_slot_hour": _text(ranked.price_per_slot),
        "price_age_seconds": (now - offer.priced_at).total_seconds(),
        "speed": ranked.speed,
        "headroom": None if headroom is None else attrs.asdict(headroom),
    }


def _text(amount: Money | None) -> str | None:
    return None if amount is None else f"{amount.usd:f}"
