"""``cloud-tasks status``: show a job's status from its database."""

from __future__ import annotations

import json
from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, json_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.database import database_of, read_database
from cloud_tasks.cli.options.job_end import command_line
from cloud_tasks.cli.options.queues import queue_text
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.controller import check_recorded_place
from cloud_tasks.registry import Registry
from cloud_tasks.report import render_activity, render_pending, render_summary, status_dict, throughput
from cloud_tasks.store import job_time, present_price, read_activity

__all__ = ["status"]


def status(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "status",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks status --config config.yml",
            "cloud-tasks status --job-id sums --json",
        ),
    )
    @json_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Show a job's status: task counts, durations, rate, remaining time and cost."""
        app.warn_of_plugins()
        config = load_from_options(app.registry, values)
        database = database_of(config)
        check_recorded_place(database, config, ask=False)
        with read_database(database) as store:
            store.check_content()
            now = job_time(store)
            statistics = store.statistics(now, with_failures=False)
            instances = store.instances()
            activity = read_activity(store.path, statistics.summary, now)
            rate = throughput(statistics.summary, now, activity=activity)
            facts = status_dict(
                statistics.summary,
                now=now,
                instances=instances,
                pace=rate,
                cost=statistics.cost,
                shares=statistics.cost_breakdown,
                costs=statistics.costs,
                activity=activity,
            )
            price = present_price(instances, now) if any(record.ended_at is None for record in instances) else None
        if values["as_json"]:
            echo(json.dumps(facts, indent=2))
        else:
            resume = command_line("run", config, options=("--continue",))
            echo(render_activity(activity, statistics.summary, resume=resume))
            echo(render_summary(statistics.summary, pace=rate, cost=statistics.cost, price_per_hour=price))
            job = statistics.summary.job
            echo(f"  Queue: {queue_text(job.queue_name, job.event_queue_name)}")
            if waiting := render_pending(instances):
                echo(f"  {waiting}")

    return command
