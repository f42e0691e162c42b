"""``cloud-tasks simulate``: duration and cost of a job on simulated instances, with their spread."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.estimates import count_tasks, task_times
from cloud_tasks.config import JobConfig, parallel_launches
from cloud_tasks.controller.autoscaler.policy import policy_of
from cloud_tasks.controller.setup.offers import rank_offers, require_offer
from cloud_tasks.errors import InputError
from cloud_tasks.estimate import CloudModel, CostResult, CostSimulation, TaskDurations
from cloud_tasks.model import Money
from cloud_tasks.registry import Registry
from cloud_tasks.report import format_duration
from cloud_tasks.selection import RankedOffer

__all__ = ["simulate"]

_MOST_TASKS = 2_000_000
"""Larger jobs are simulated in batches of several tasks; each would take minutes otherwise."""
_SECONDS = click.FloatRange(min=0, min_open=True, max=timedelta(days=3650).total_seconds())


@attrs.frozen(kw_only=True)
class _Estimate:
    """Simulated runs of one way to choose instances."""

    name: str
    batch_size: int
    """Number of tasks that each simulated one stands for."""
    results: tuple[CostResult, ...]
    """One for each seed."""

    def ordered(self, field: str) -> tuple[Any, ...]:
        """Return one field of all results, in ascending order."""
        return tuple(sorted(getattr(result, field) for result in self.results))

    def quantile(self, field: str, fraction: float) -> Any:
        values = self.ordered(field)
        return values[max(math.ceil(fraction * len(values)), 1) - 1]

    @property
    def stopped(self) -> list[str]:
        """Reasons of the runs that did not complete every task."""
        return [result.stopped for result in self.results if result.stopped]

    def over(self, limit: Money | None) -> int:
        """Return the number of runs that cost more than the limit."""
        return 0 if limit is None else sum(result.cost > limit for result in self.results)


def simulate(registry: Registry) -> click.Command:
    """Make the command; its options are those of core and of the installed plugins."""

    @click.command(
        "simulate",
        epilog=examples(
            "cloud-tasks simulate --config config.yml --num-tasks 100000 --task-time 90",
            "cloud-tasks simulate --config config.yml --sample-db sample.db --seeds 50 --spot-lifetime 7200",
        ),
    )
    @click.option("--task-file", metavar="FILE", help="Task file to count (default: task_source).")
    @click.option("--num-tasks", type=click.IntRange(min=1), help="Number of tasks, instead of a file.")
    @click.option("--task-time", type=_SECONDS, metavar="SECONDS", help="Mean duration of a task.")
    @click.option(
        "--task-time-deviation",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Standard deviation of task durations (default: 80 % of the mean).",
    )
    @click.option(
        "--sample-db",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Database of a finished job to draw task durations from.",
    )
    @click.option(
        "--boot-time",
        type=click.FloatRange(min=0, max=timedelta(days=1).total_seconds()),
        default=60.0,
        metavar="SECONDS",
        help="Mean time from a launch to the first task (default: 60).",
    )
    @click.option("--seeds", type=click.IntRange(1, 1000), default=10, help="Number of simulated runs (default: 10).")
    @click.option(
        "--spot-lifetime",
        type=_SECONDS,
        default=4 * 3600.0,
        metavar="SECONDS",
        help="Mean time until a spot instance is interrupted (default: 14400).",
    )
    @click.option(
        "--refused",
        type=click.FloatRange(0, 0.9),
        default=0.05,
        metavar="SHARE",
        help="Share of launches refused for lack of capacity (default: 0.05).",
    )
    @click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Simulate the job to estimate duration and cost, spot versus on-demand."""
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
    estimates = [
        _estimate(config, name, offers, tasks=tasks, durations=durations, values=values)
        for name, offers in _variants(config)
    ]
    limit = config.limits().max_total_cost
    if values["as_json"]:
        click.echo(json.dumps([_as_dict(estimate, limit) for estimate in estimates], indent=2))
        return
    click.echo(f"{values['seeds']} simulated runs of each: 10 % / median / 90 %")
    width = max(len(estimate.name) for estimate in estimates)
    for estimate in estimates:
        _show(estimate, width, limit)


def _show(estimate: _Estimate, width: int, limit: Money | None) -> None:
    durations = " / ".join(format_duration(estimate.quantile("duration", q)) for q in (0.1, 0.5, 0.9))
    costs = " / ".join(estimate.quantile("cost", q).format(4) for q in (0.1, 0.5, 0.9))
    click.echo(f"{estimate.name:<{width}}  {durations}  {costs}")
    if interruptions := estimate.quantile("interrupted_instances", 0.5):
        attempts = estimate.quantile("interrupted_attempts", 0.5)
        click.echo(f"  {interruptions:,} spot interruptions, {attempts:,} interrupted attempts (median)")
    if estimate.batch_size > 1:
        click.echo(f"  simulated in batches of {estimate.batch_size} tasks, which overstates the cost of interruptions")
    if stopped := estimate.stopped:
        click.echo(f"  WARNING: {len(stopped)} of {len(estimate.results)} runs did not complete the job: {stopped[0]}")
    if over := estimate.over(limit):
        click.echo(f"  WARNING: {over} of {len(estimate.results)} runs cost more than max_total_cost ({limit})")


def _variants(config: JobConfig) -> Iterator[tuple[str, tuple[RankedOffer, ...]]]:
    """Yield name and offers of each variant: spot, on-demand, the smallest and the largest instance types alone."""
    has_spot = config.registry.compute(config.compute).traits.spot
    rankings = {
        spot: rank_offers(attrs.evolve(config, run=attrs.evolve(config.run, use_spot=spot)), config.run.job_id or "")
        for spot in ((config.run.use_spot, not config.run.use_spot) if has_spot else (False,))
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


def _estimate(
    config: JobConfig,
    name: str,
    offers: tuple[RankedOffer, ...],
    *,
    tasks: int,
    durations: TaskDurations,
    values: dict[str, Any],
) -> _Estimate:
    click.echo(f"Simulating {name} ...", err=True)
    policy = policy_of(config)
    # Every run completes the job; costs above the limit are reported afterwards.
    policy = attrs.evolve(policy, limits=attrs.evolve(policy.limits, max_total_cost=None))
    batch_size = -(-tasks // _MOST_TASKS)
    cloud = CloudModel(
        boot_time=timedelta(seconds=values["boot_time"]),
        spot_lifetime=timedelta(seconds=values["spot_lifetime"]),
        refused=values["refused"],
    )
    results = tuple(
        CostSimulation(
            seed,
            tasks=tasks,
            durations=durations,
            offers=offers,
            policy=policy,
            interval=timedelta(seconds=config.run.scaling_check_interval),
            cloud=cloud,
            parallel_launches=parallel_launches(config),
            batch_size=batch_size,
        ).run()
        for seed in range(values["seeds"])
    )
    return _Estimate(name=name, batch_size=batch_size, results=results)


def _as_dict(estimate: _Estimate, limit: Money | None) -> dict[str, Any]:
    return {
        "name": estimate.name,
        "tasks_per_simulated_task": estimate.batch_size,
        "durations_seconds": [duration.total_seconds() for duration in estimate.ordered("duration")],
        "instances": estimate.ordered("instances"),
        "instances_taken_away": estimate.ordered("interrupted_instances"),
        "tasks_begun_again": estimate.ordered("interrupted_attempts"),
        "stopped": estimate.stopped,
        "costs": [f"{cost.usd:f}" for cost in estimate.ordered("cost")],
        "over_max_total_cost": estimate.over(limit),
    }
