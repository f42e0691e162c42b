"""``cloud-tasks simulate``: estimate duration and cost of a job on simulated instances, with quantiles."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import attrs
import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, json_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.durations import Duration
from cloud_tasks.cli.options.estimates import count_tasks, estimate_options, task_durations
from cloud_tasks.cli.options.listing import echo_table
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.config import JobConfig, parallel_launches
from cloud_tasks.controller import policy_of, rank_offers, require_offer
from cloud_tasks.errors import InputError
from cloud_tasks.estimate import CloudModel, CostResult, CostSimulation, TaskDurations
from cloud_tasks.model import Money
from cloud_tasks.quantities import counted, format_duration
from cloud_tasks.registry import Registry
from cloud_tasks.selection import RankedOffer
from cloud_tasks.tables import Column

__all__ = ["simulate"]

_MAX_TASKS = 2_000_000
"""Maximum number of simulated tasks; larger jobs are simulated in batches of several tasks."""
_QUANTILES = (0.1, 0.5, 0.9)


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
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "simulate",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks simulate --config config.yml --num-tasks 100000 --task-time 90s",
            "cloud-tasks simulate --config config.yml --sample-db sample.db --seeds 50 --spot-lifetime 2h",
        ),
    )
    @estimate_options(boot_time="1m")
    @click.option(
        "--task-time-deviation",
        type=Duration(),
        help="Standard deviation of task durations (default: 80% of the mean).",
    )
    @click.option(
        "--seeds", type=click.IntRange(1, 1000), default=10, metavar="N", help="Number of simulated runs (default: 10)."
    )
    @click.option(
        "--spot-lifetime",
        type=Duration(),
        default="4h",
        help="Mean time until a spot instance is interrupted (default: 4h).",
    )
    @click.option(
        "--refused",
        type=click.FloatRange(0, 0.9),
        default=0.05,
        metavar="SHARE",
        help="Share of launches refused for lack of capacity (default: 0.05).",
    )
    @json_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Simulate the job to estimate duration and cost, spot versus on-demand."""
        app.warn_of_plugins()
        _simulate(load_from_options(app.registry, values), values)

    return command


def _simulate(config: JobConfig, values: dict[str, Any]) -> None:
    tasks = count_tasks(config, number=values["num_tasks"], spec=values["task_file"])
    durations = task_durations(
        given=values["task_time"], deviation=values["task_time_deviation"], sample=values["sample_db"]
    )
    if not tasks:
        problem = "unknown number of tasks" if tasks is None else "no tasks to simulate"
        raise InputError(problem, hint="add --task-file or --num-tasks")
    if durations is None:
        raise InputError("unknown task duration", hint="add --task-time or --sample-db")
    estimates = [
        _estimate(config, name, offers, tasks=tasks, durations=durations, values=values)
        for name, offers in _variants(config)
    ]
    limit = config.limits().max_total_cost
    if values["as_json"]:
        echo(json.dumps([_as_dict(estimate, limit) for estimate in estimates], indent=2))
        return
    echo(f"{counted(values['seeds'], 'simulated run')} of each variant; 10% / median / 90%")
    echo_table(estimates, _COLUMNS)
    for estimate in estimates:
        for note in _notes(estimate, limit):
            echo(f"{estimate.name}: {note}")


def _quantiles(estimate: _Estimate, field: str, show: Callable[[Any], str]) -> str:
    return " / ".join(show(estimate.quantile(field, fraction)) for fraction in _QUANTILES)


_COLUMNS: tuple[Column[_Estimate], ...] = (
    Column(name="name", title="Variant", value=lambda e: e.name),
    Column(name="duration", title="Duration", value=lambda e: _quantiles(e, "duration", format_duration)),
    Column(name="cost", title="Cost", value=lambda e: _quantiles(e, "cost", lambda cost: cost.format(4))),
)


def _notes(estimate: _Estimate, limit: Money | None) -> Iterator[str]:
    runs = len(estimate.results)
    if interruptions := estimate.quantile("interrupted_instances", 0.5):
        attempts = counted(estimate.quantile("interrupted_attempts", 0.5), "interrupted attempt")
        yield f"{counted(interruptions, 'spot interruption')}, {attempts} (median)"
    if estimate.batch_size > 1:
        yield f"simulated in batches of {estimate.batch_size} tasks, which overstates the cost of interruptions"
    if stopped := estimate.stopped:
        yield f"Warning: {len(stopped)} of {counted(runs, 'run')} did not complete the job: {stopped[0]}"
    if over := estimate.over(limit):
        yield f"Warning: {over} of {counted(runs, 'run')} cost more than max_total_cost ({limit})"


def _variants(config: JobConfig) -> Iterator[tuple[str, tuple[RankedOffer, ...]]]:
    """Yield name and offers of each variant: spot, on-demand, the smallest and the largest instance types alone."""
    has_spot = config.registry.compute(config.compute).traits.spot
    rankings = {
        spot: rank_offers(attrs.evolve(config, run=attrs.evolve(config.run, use_spot=spot)), config.run.job_id or "")
        for spot in ((config.run.use_spot, not config.run.use_spot) if has_spot else (False,))
    }
    for spot, ranking in rankings.items():
        if spot is config.run.use_spot:
            require_offer(ranking, config)
        if ranking.offers:
            yield ("spot" if spot else "on-demand"), ranking.offers
    offers = rankings[config.run.use_spot].offers
    sizes = sorted({ranked.offer.instance_type.vcpus for ranked in offers})
    for size in (sizes[0], sizes[-1]) if len(sizes) > 1 else ():
        kind = "spot" if config.run.use_spot else "on-demand"
        yield f"{kind}, {counted(size, 'vCPU')} only", tuple(r for r in offers if r.offer.instance_type.vcpus == size)


def _estimate(
    config: JobConfig,
    name: str,
    offers: tuple[RankedOffer, ...],
    *,
    tasks: int,
    durations: TaskDurations,
    values: dict[str, Any],
) -> _Estimate:
    echo(f"Simulating {name} ...", err=True)
    policy = policy_of(config)
    # Every run completes the job; costs above the limit are reported at the end.
    policy = attrs.evolve(policy, limits=attrs.evolve(policy.limits, max_total_cost=None))
    batch_size = -(-tasks // _MAX_TASKS)
    cloud = CloudModel(
        boot_time=values["boot_time"],
        spot_lifetime=values["spot_lifetime"],
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
