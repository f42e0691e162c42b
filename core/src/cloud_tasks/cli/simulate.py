"""``cloud-tasks simulate``: the person's own job on modelled machines: how long, how much, and how sure that is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import click

from cloud_tasks.cli.common import examples
from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.estimates import count_tasks, task_times
from cloud_tasks.cli.options import configuration_options, load_from_options
from cloud_tasks.config import JobConfig
from cloud_tasks.controller.choice import rank_offers, require_offer
from cloud_tasks.controller.policy import policy_of
from cloud_tasks.errors import InputError
from cloud_tasks.estimate import CloudModel, CostSimulation, TaskDurations
from cloud_tasks.model import Money
from cloud_tasks.registry import Registry
from cloud_tasks.report import format_duration
from cloud_tasks.selection import RankedOffer

__all__ = ["simulate"]

_MOST_TASKS = 2_000_000
"""Larger jobs are played in lumps of several tasks, or it would take minutes."""
_SECONDS = click.FloatRange(min=0, min_open=True, max=timedelta(days=3650).total_seconds())


@attrs.frozen(kw_only=True)
class _Simulated:
    """How one way to buy machines went, one entry for each seed, in order of size."""

    name: str
    batch_size: int
    """How many tasks each simulated one stands for."""
    durations: tuple[timedelta, ...]
    costs: tuple[Money, ...]
    instances: tuple[int, ...]
    taken_away: tuple[int, ...]
    lost_tasks: tuple[int, ...]
    stopped: tuple[str, ...]
    """Why runs did not reach their end, one entry for each that did not."""


def simulate(registry: Registry) -> click.Command:
    """Make the command; its options are those of core and of the installed plugins."""

    @click.command(
        "simulate",
        epilog=examples(
            "cloud-tasks simulate --config config.yml --num-tasks 100000 --task-time 90",
            "cloud-tasks simulate --config config.yml --sample-db sample.db --seeds 50 --spot-lifetime 7200",
        ),
    )
    @click.option("--task-file", metavar="FILE", help="The tasks to count; default: task_source.")
    @click.option("--num-tasks", type=click.IntRange(min=1), help="How many tasks there would be, instead of a file.")
    @click.option("--task-time", type=_SECONDS, metavar="SECONDS", help="How long a task takes on average.")
    @click.option(
        "--task-time-deviation",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Standard deviation of the task times.  [80 % of the mean]",
    )
    @click.option(
        "--sample-db",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Draw the task times from those of a job that was run, from its database.",
    )
    @click.option(
        "--boot-time",
        type=click.FloatRange(min=0, max=timedelta(days=1).total_seconds()),
        default=60.0,
        metavar="SECONDS",
        help="Mean from a launch to the start of the first task.  [60]",
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
        """Play a job many times on modelled machines: how long and how dear, spot against on-demand."""
        app.warn_of_plugins()
        _simulate(load_from_options(app.registry, values), values)

    return command


def _simulate(config: JobConfig, values: dict[str, Any]) -> None:
    tasks = count_tasks(config, number=values["num_tasks"], spec=values["task_file"])
    durations = task_times(
        seconds=values["task_time"], deviation=values["task_time_deviation"], sample=values["sample_db"]
    )
    if not tasks:
        raise InputError("the number of tasks is not known", hint="give --task-file or --num-tasks")
    if durations is None:
        raise InputError("the time of a task is not known", hint="give --task-time or --sample-db")
    found = [
        _one(config, name, offers, tasks=tasks, durations=durations, values=values)
        for name, offers in _variants(config)
    ]
    most = config.limits().max_total_cost
    if values["as_json"]:
        click.echo(json.dumps([_facts(simulated, most) for simulated in found], indent=2))
        return
    click.echo(f"{values['seeds']} simulated runs of each: 10 % / median / 90 %")
    width = max(len(simulated.name) for simulated in found)
    for simulated in found:
        _tell(simulated, width, most)


def _tell(simulated: _Simulated, width: int, most: Money | None) -> None:
    durations = " / ".join(format_duration(_quantile(simulated.durations, q)) for q in (0.1, 0.5, 0.9))
    costs = " / ".join(_quantile(simulated.costs, q).format(4) for q in (0.1, 0.5, 0.9))
    click.echo(f"{simulated.name:<{width}}  {durations}  {costs}")
    if taken := _quantile(simulated.taken_away, 0.5):
        lost = _quantile(simulated.lost_tasks, 0.5)
        click.echo(f"  {taken} instances were taken away and {lost} tasks begun again (median)")
    if simulated.batch_size > 1:
        click.echo(f"  simulated in lumps of {simulated.batch_size} tasks, which overstates what an interruption costs")
    if simulated.stopped:
        click.echo(f"  WARNING: {len(simulated.stopped)} runs did not reach their end: {simulated.stopped[0]}")
    if over := _over(simulated, most):
        click.echo(f"  WARNING: {over} of {len(simulated.costs)} runs cost more than max_total_cost ({most})")


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
    config: JobConfig,
    name: str,
    offers: tuple[RankedOffer, ...],
    *,
    tasks: int,
    durations: TaskDurations,
    values: dict[str, Any],
) -> _Simulated:
    click.echo(f"Simulating {name} ...", err=True)
    policy = policy_of(config)
    # The job is to reach its end; what is more than the cost limit is told afterwards.
    policy = attrs.evolve(policy, limits=attrs.evolve(policy.limits, max_total_cost=None))
    batch_size = -(-tasks // _MOST_TASKS)
    cloud = CloudModel(
        boot_time=timedelta(seconds=values["boot_time"]),
        spot_lifetime=timedelta(seconds=values["spot_lifetime"]),
        refused=values["refused"],
    )
    interval = timedelta(seconds=config.run.scaling_check_interval)
    results = [
        CostSimulation(
            seed,
            tasks=tasks,
            durations=durations,
            offers=offers,
            policy=policy,
            interval=interval,
            cloud=cloud,
            parallel_launches=config.run.max_parallel_instance_creations,
            batch_size=batch_size,
        ).run()
        for seed in range(values["seeds"])
    ]
    return _Simulated(
        name=name,
        batch_size=batch_size,
        durations=tuple(sorted(result.duration for result in results)),
        costs=tuple(sorted(result.cost for result in results)),
        instances=tuple(sorted(result.instances for result in results)),
        taken_away=tuple(sorted(result.interrupted_instances for result in results)),
        lost_tasks=tuple(sorted(result.interrupted_attempts for result in results)),
        stopped=tuple(result.stopped for result in results if result.stopped),
    )


def _quantile(ordered: tuple[Any, ...], fraction: float) -> Any:
    return ordered[max(math.ceil(fraction * len(ordered)), 1) - 1]


def _over(simulated: _Simulated, most: Money | None) -> int:
    return 0 if most is None else sum(cost > most for cost in simulated.costs)


def _facts(simulated: _Simulated, most: Money | None) -> dict[str, Any]:
    return {
        "name": simulated.name,
        "tasks_per_simulated_task": simulated.batch_size,
        "durations_seconds": [duration.total_seconds() for duration in simulated.durations],
        "instances": list(simulated.instances),
        "instances_taken_away": list(simulated.taken_away),
        "tasks_begun_again": list(simulated.lost_tasks),
        "stopped": list(simulated.stopped),
        "costs": [f"{cost.usd:f}" for cost in simulated.costs],
        "over_max_total_cost": _over(simulated, most),
    }
