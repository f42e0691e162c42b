"""``cloud-tasks plan``: estimate instances, duration and cost of a job; change nothing."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any

import click

from cloud_tasks.cli.commands.job._shipped import render_shipped, shipped_dict
from cloud_tasks.cli.commands.job._trait_warnings import trait_warnings
from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import allow_empty_option, examples, json_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.estimates import count_tasks, estimate_options, mean_task_time
from cloud_tasks.cli.options.listing import output_width
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.config import ConfigurationError, JobConfig, read_secrets, secret_deliveries
from cloud_tasks.controller import (
    AccountError,
    ask_headroom,
    check_account,
    check_launch,
    check_max_runtime,
    check_program,
    explained_by_checks,
    first_queue_name,
    prepare_program,
    rank_offers,
    require_offer,
)
from cloud_tasks.model import LaunchRequest
from cloud_tasks.plugin import Reach
from cloud_tasks.quantities import counted
from cloud_tasks.registry import Registry
from cloud_tasks.report import (
    plan_dict,
    render_command,
    render_forecast,
    render_headroom,
    render_offers,
    render_price,
    render_rejected,
)
from cloud_tasks.selection import forecast

__all__ = ["plan"]

_ROWS = 20
"""Maximum number of offers shown without ``--detail``."""
_CHECKED = 3
"""Number of offers, from the best, whose quotas are checked."""


def plan(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "plan",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks plan --config config.yml --task-file tasks.json --task-time 90s",
            "cloud-tasks plan --config config.yml --num-tasks 100000 --sample-db sample.db",
            "cloud-tasks plan --provider gcp --min-memory-per-task 4 --use-spot --rejected",
        ),
    )
    @estimate_options(boot_time="0s")
    @allow_empty_option
    @click.option("--rejected", is_flag=True, help="Show every rejected instance type with the reason.")
    @click.option("--detail", is_flag=True, help=f"Show all offers (default: the best {_ROWS}) and the rejected types.")
    @json_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Rank the offers for a job and estimate instances, duration and cost; change nothing."""
        app.warn_of_plugins()
        _plan(load_from_options(app.registry, values), values)

    return command


def _plan(config: JobConfig, values: dict[str, Any]) -> None:
    # The job needs one, and a check of the account would come first.
    _ = config.queue
    tasks = count_tasks(config, number=values["num_tasks"], spec=values["task_file"], allow_empty=values["allow_empty"])
    task_time = mean_task_time(given=values["task_time"], sample=values["sample_db"])
    secrets = secret_deliveries(config)
    for line in trait_warnings(config):
        echo(f"Warning: {line}", err=True)
    if warning := check_program(config, _read_secrets(config)):
        echo(f"Warning: {warning}", err=True)
    job_id = config.run.job_id or ""
    with explained_by_checks(config):
        ranking = rank_offers(config, job_id)
    name = first_queue_name(config.run.queue_name or job_id, "0" * 16)
    program = prepare_program(config, ranking.offers)
    launch = check_launch(config, ranking.offers, job_id=job_id, queue_name=name, program=program)
    problem = _check_account(config, launch)
    if warning := check_max_runtime(config, ranking.offers):
        echo(f"Warning: {warning}", err=True)
    limits, now = config.limits(), datetime.now(UTC)
    found = (
        forecast(ranking.offers[0], limits, tasks=tasks, task_time=task_time, boot_time=values["boot_time"])
        if ranking.offers
        else None
    )
    headrooms = ask_headroom(config, ranking.offers[:_CHECKED], job_id)
    if values["as_json"]:
        facts = plan_dict(
            ranking, found, command=config.run.command, tasks=tasks, task_time=task_time, now=now, headrooms=headrooms
        )
        facts["secrets"] = [
            {"setting": each.key, "variable": each.variable, "set_by_startup_script": each.by_script}
            for each in secrets
        ]
        facts["task_secrets"] = [{"name": each, "source": source} for each, source in config.run.secrets.items()]
        if program is not None:
            facts["shipped"] = shipped_dict(program)
        echo(json.dumps(facts, indent=2))
        require_offer(ranking, config)
        if problem is not None:
            raise problem
        return
    if config.run.command is not None:
        located = config.registry.compute(config.compute).traits.located
        folder = None if located is Reach.NETWORK else config.base_dir
        echo(render_command(config.run.command, shell=config.run.shell, folder=folder) + "\n")
    if program is not None:
        echo(render_shipped(program, is_detailed=values["detail"]) + "\n")
    for warning in ranking.warnings:
        echo(f"Warning: {warning}", err=True)
    if ranking.offers:
        maximum = None if values["detail"] else _ROWS
        echo(render_offers(ranking.offers, now=now, maximum=maximum, width=output_width()) + "\n")
        if price := render_price(ranking.offers[0]):
            echo(price)
    for note in ranking.notes:
        echo(note)
    if values["detail"] or values["rejected"]:
        echo(render_rejected(ranking.rejected) + "\n")
    elif ranking.rejected and ranking.offers:
        echo(f"{counted(len(ranking.rejected), 'other offer')} rejected; --rejected shows the reasons\n")
    require_offer(ranking, config)
    assert found is not None
    for secret in secrets:
        echo(secret.describe(config.compute))
    for each, source in config.run.secrets.items():
        echo(f"Secret {each}: from {source}, a file in CLOUD_TASKS_SECRETS_DIR of the tasks")
    text = render_forecast(found, tasks=tasks, task_time=task_time, max_total_cost=limits.max_total_cost)
    echo(text)
    if quotas := render_headroom(ranking.offers, headrooms, wanted=found.instances):
        echo(quotas)
    if problem is not None:
        raise problem


def _read_secrets(config: JobConfig) -> dict[str, bytes]:
    """Return the secrets of the tasks, for a program that reads them when it is imported; show what is missing."""
    try:
        return read_secrets(config, os.environb)
    except ConfigurationError as error:
        for problem in error.problems:
            echo(f"Warning: {problem}", err=True)
        return {}


def _check_account(config: JobConfig, launch: LaunchRequest | None) -> AccountError | None:
    """Show the warnings of the account's checks; return the problem that prevents a run, to be shown after the plan."""
    try:
        for line in check_account(config, launch):
            echo(f"Warning: {line}", err=True)
    except AccountError as error:
        return error
    return None
