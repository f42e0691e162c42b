"""``cloud-tasks rehearse``: the person's own job in the simulated cloud: how long, how much, and how sure that is."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.estimates import count_tasks, mean_task_time
from cloud_tasks.cli.options import configuration_options, load_from_options
from cloud_tasks.config import JobConfig
from cloud_tasks.controller.choice import rank_offers, require_offer
from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.model import Money
from cloud_tasks.registry import Registry
from cloud_tasks.report import format_duration
from cloud_tasks.selection import RankedOffer, forecast

__all__ = ["rehearse"]

_MOST_TASKS = 1000
"""Larger jobs are simulated in lumps of several tasks, or it would take too long."""
_TASKS_PER_SLOT = 4
"""But each slot has at least so many lumps to do."""
_LONGEST = timedelta(hours=20)
"""A simulated job of more than a day is taken for one that does not end."""
_SECONDS = click.FloatRange(min=0, min_open=True, max=timedelta(days=3650).total_seconds())


@attrs.frozen(kw_only=True)
class _Rehearsed:
    """How one way to buy machines went, one entry for each seed, in order of size."""

    name: str
    lump: int
    """How many tasks each simulated one stands for."""
    durations: tuple[timedelta, ...]
    costs: tuple[Money, ...]


def rehearse(registry: Registry) -> click.Command:
    """Make the command; its options are those of core and of the installed plugins."""

    @click.command("rehearse")
    @click.option("--task-file", metavar="FILE", help="The tasks to count; default: task_source.")
    @click.option("--num-tasks", type=click.IntRange(min=1), help="How many tasks there would be, instead of a file.")
    @click.option("--task-time", type=_SECONDS, metavar="SECONDS", help="How long a task takes on average.")
    @click.option(
        "--sample-db",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Take the task time from the database of a sample that was run.",
    )
    @click.option("--seeds", type=click.IntRange(1, 1000), default=10, help="How many simulated runs of each.  [10]")
    @click.option(
        "--spot-lifetime",
        type=_SECONDS,
        default=4 * 3600.0,
        metavar="SECONDS",
        help="Mean time until a spot instance is taken away.  [14400]",
    )
    @click.option(
        "--refused",
        type=click.FloatRange(0, 0.9),
        default=0.05,
        metavar="SHARE",
        help="Share of launches that find no capacity.  [0.05]",
    )
    @click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Run a job many times in a simulated cloud: distribution of duration and cost, spot against on-demand."""
        app.warn_of_plugins()
        _rehearse(load_from_options(app.registry, values), values)

    return command


def _rehearse(config: JobConfig, values: dict[str, Any]) -> None:
    simulate = _simulator()
    tasks = count_tasks(config, number=values["num_tasks"], spec=values["task_file"])
    task_time = mean_task_time(seconds=values["task_time"], sample=values["sample_db"])
    if not tasks:
        raise InputError("the number of tasks is not known", hint="give --task-file or --num-tasks")
    if task_time is None:
        raise InputError("the time of a task is not known", hint="give --task-time or --sample-db")
    found = [
        _one(simulate, config, name, offers, tasks=tasks, task_time=task_time, values=values)
        for name, offers in _variants(config)
    ]
    most = config.limits().max_total_cost
    if values["as_json"]:
        click.echo(json.dumps([_facts(rehearsed, most) for rehearsed in found], indent=2))
        return
    click.echo(f"{values['seeds']} simulated runs of each: 10 % / median / 90 %")
    width = max(len(rehearsed.name) for rehearsed in found)
    for rehearsed in found:
        durations = " / ".join(format_duration(_quantile(rehearsed.durations, q)) for q in (0.1, 0.5, 0.9))
        costs = " / ".join(_quantile(rehearsed.costs, q).format(4) for q in (0.1, 0.5, 0.9))
        click.echo(f"{rehearsed.name:<{width}}  {durations}  {costs}")
        if rehearsed.lump > 1:
            click.echo(f"  simulated in lumps of {rehearsed.lump} tasks, which overstates what an interruption costs")
        if over := _over(rehearsed, most):
            click.echo(f"  WARNING: {over} of {len(rehearsed.costs)} runs cost more than max_total_cost ({most})")


def _simulator() -> Callable[..., Iterator[Any]]:
    """The simulated cloud; it belongs to the kit for tests, which an installation need not have."""
    try:
        module = importlib.import_module("cloud_tasks.testing.simulation.rehearsal")
    except ImportError as error:
        raise CloudTasksError(
            f"the simulated cloud cannot be loaded: {error}", hint="install it with: pip install 'cloud-tasks[testing]'"
        ) from error
    found: Callable[..., Iterator[Any]] = module.rehearse
    return found


def _variants(config: JobConfig) -> Iterator[tuple[str, tuple[RankedOffer, ...]]]:
    """Spot and on-demand; of what is configured also the smallest and the largest machines alone."""
    rankings = {
        spot: rank_offers(attrs.evolve(config, run=attrs.evolve(config.run, use_spot=spot)), config.run.job_id or "")
        for spot in (config.run.use_spot, not config.run.use_spot)
    }
    for spot, ranking in rankings.items():
        if spot is config.run.use_spot:
            require_offer(ranking)
        if ranking.offers:
            yield ("spot" if spot else "on-demand"), ranking.offers
    offers = rankings[config.run.use_spot].offers
    sizes = sorted({ranked.offer.instance_type.vcpus for ranked in offers})
    for size in (sizes[0], sizes[-1]) if len(sizes) > 1 else ():
        kind = "spot" if config.run.use_spot else "on-demand"
        yield f"{kind}, {size} vCPUs only", tuple(r for r in offers if r.offer.instance_type.vcpus == size)


def _one(
    simulate: Callable[..., Iterator[Any]],
    config: JobConfig,
    name: str,
    offers: tuple[RankedOffer, ...],
    *,
    tasks: int,
    task_time: timedelta,
    values: dict[str, Any],
) -> _Rehearsed:
    # The job is to reach its end; what is more than the cost limit is told afterwards.
    limits = attrs.evolve(config.limits(), max_total_cost=None)
    expected = forecast(offers[0], limits, tasks=tasks, task_time=task_time)
    if expected.duration is None or expected.duration > _LONGEST:
        raise InputError(
            f"a rehearsal covers {format_duration(_LONGEST)}, and this job takes longer ({name})",
            hint="raise the limits of `run`, or rehearse a part of it with --num-tasks",
        )
    lump = max(tasks // max(_MOST_TASKS, _TASKS_PER_SLOT * (expected.slots or 1)), 1)
    click.echo(f"Rehearsing {name} ...", err=True)
    results = list(
        simulate(
            range(values["seeds"]),
            tasks=-(-tasks // lump),
            task_time=task_time * lump,
            offers=offers,
            constraints=config.constraints(),
            limits=limits,
            spot_lifetime=timedelta(seconds=values["spot_lifetime"]),
            refused=values["refused"],
            spot_fallback=config.run.spot_fallback,
        )
    )
    return _Rehearsed(
        name=name,
        lump=lump,
        durations=tuple(sorted(result.duration for result in results)),
        costs=tuple(sorted(result.cost for result in results)),
    )


def _quantile(ordered: tuple[Any, ...], fraction: float) -> Any:
    return ordered[max(math.ceil(fraction * len(ordered)), 1) - 1]


def _over(rehearsed: _Rehearsed, most: Money | None) -> int:
    return 0 if most is None else sum(cost > most for cost in rehearsed.costs)


def _facts(rehearsed: _Rehearsed, most: Money | None) -> dict[str, Any]:
    return {
        "name": rehearsed.name,
        "tasks_per_simulated_task": rehearsed.lump,
        "durations_seconds": [duration.total_seconds() for duration in rehearsed.durations],
        "costs": [f"{cost.usd:f}" for cost in rehearsed.costs],
        "over_max_total_cost": _over(rehearsed, most),
    }
