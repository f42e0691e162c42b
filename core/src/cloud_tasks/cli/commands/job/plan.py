"""``cloud-tasks plan``: what a job would be run on, how many of it, for how long and how much. Changes nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from cloud_tasks.cli.commands.job._trait_warnings import trait_warnings
from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.estimates import count_tasks, mean_task_time
from cloud_tasks.config import JobConfig
from cloud_tasks.controller.launch.launch_request import check_launch
from cloud_tasks.controller.setup.offers import ask_headroom, rank_offers, require_offer
from cloud_tasks.registry import Registry
from cloud_tasks.report import plan_dict, render_forecast, render_headroom, render_offers, render_rejected
from cloud_tasks.selection import forecast

__all__ = ["plan"]

_ROWS = 20
_ASKED = 3
"""Of so many offers the quotas are looked up: the others are fallbacks."""
_SECONDS = click.FloatRange(min=0, min_open=True, max=timedelta(days=3650).total_seconds())


def plan(registry: Registry) -> click.Command:
    """Make the command; its options are those of core and of the installed plugins."""

    @click.command(
        "plan",
        epilog=examples(
            "cloud-tasks plan --config config.yml --task-file tasks.json --task-time 90",
            "cloud-tasks plan --config config.yml --num-tasks 100000 --sample-db sample.db",
            "cloud-tasks plan --provider gcp --min-memory-per-task 4 --use-spot --rejected",
        ),
    )
    @click.option("--task-file", metavar="FILE", help="The tasks to count; default: task_source.")
    @click.option("--num-tasks", type=click.IntRange(min=0), help="How many tasks there would be, instead of a file.")
    @click.option("--task-time", type=_SECONDS, metavar="SECONDS", help="How long a task takes on average.")
    @click.option(
        "--sample-db",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Take the task time from the database of a sample that was run.",
    )
    @click.option(
        "--boot-time",
        type=click.FloatRange(min=0, max=timedelta(days=1).total_seconds()),
        default=0.0,
        metavar="SECONDS",
        help="From a launch to the start of the first task.  [0]",
    )
    @click.option("--rejected", is_flag=True, help="Say of every type that will not do why.")
    @click.option("--detail", is_flag=True, help=f"Show all offers, not only {_ROWS}, and what was rejected.")
    @click.option("--json", "as_json", is_flag=True, help="Machine-readable output, with everything.")
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Rank what can be bought for a job, and say how many, how long and how much. Changes nothing anywhere."""
        app.warn_of_plugins()
        _plan(load_from_options(app.registry, values), values)

    return command


def _plan(config: JobConfig, values: dict[str, Any]) -> None:
    tasks = count_tasks(config, number=values["num_tasks"], spec=values["task_file"])
    task_time = mean_task_time(seconds=values["task_time"], sample=values["sample_db"])
    for line in trait_warnings(config):
        click.echo(f"Warning: {line}", err=True)
    job_id = config.run.job_id or ""
    ranking = rank_offers(config, job_id)
    check_launch(config, ranking.offers, job_id=job_id, queue_name=config.run.queue_name or job_id)
    limits, now = config.limits(), datetime.now(UTC)
    boot_time = timedelta(seconds=values["boot_time"])
    found = (
        forecast(ranking.offers[0], limits, tasks=tasks, task_time=task_time, boot_time=boot_time)
        if ranking.offers
        else None
    )
    headrooms = ask_headroom(config, ranking.offers[:_ASKED], job_id)
    if values["as_json"]:
        facts = plan_dict(ranking, found, tasks=tasks, task_time=task_time, now=now, headrooms=headrooms)
        click.echo(json.dumps(facts, indent=2))
        require_offer(ranking)
        return
    for warning in ranking.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if ranking.offers:
        click.echo(render_offers(ranking.offers, now=now, most=None if values["detail"] else _ROWS) + "\n")
    if values["detail"] or values["rejected"]:
        click.echo(render_rejected(ranking.rejected) + "\n")
    elif ranking.rejected and ranking.offers:
        click.echo(f"{len(ranking.rejected)} other types or offers will not do; --rejected says why\n")
    require_offer(ranking)
    assert found is not None
    text = render_forecast(found, tasks=tasks, task_time=task_time, max_total_cost=limits.max_total_cost)
    click.echo(text)
    if quotas := render_headroom(ranking.offers, headrooms, wanted=found.instances):
        click.echo(quotas)
