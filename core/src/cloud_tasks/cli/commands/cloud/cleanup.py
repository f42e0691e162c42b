"""``cloud-tasks cleanup``: find what any job of this user left running at a provider, and end it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, force_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.ui.confirmation import confirm
from cloud_tasks.config import JobConfig
from cloud_tasks.controller.launch.labels import expiry, owner_label
from cloud_tasks.controller.launch.terminate import remaining_instances, remove_instances
from cloud_tasks.controller.setup.open_backends import open_compute
from cloud_tasks.model import Instance
from cloud_tasks.plugin import Compute
from cloud_tasks.registry import Registry
from cloud_tasks.report import format_duration

__all__ = ["cleanup"]


def cleanup(registry: Registry) -> click.Command:
    """Make the command; its options are those of core and of the installed plugins."""

    @click.command(
        "cleanup",
        epilog=examples(
            "cloud-tasks cleanup --provider gcp --list",
            "cloud-tasks cleanup --provider gcp --all --force",
            "cloud-tasks cleanup --config config.yml --any-owner --json --list",
        ),
    )
    @click.option("--all", "every", is_flag=True, help="Not only what has expired: everything of mine.")
    @click.option("--any-owner", is_flag=True, help="Also what others started, or nobody signed.")
    @click.option("--list", "only_list", is_flag=True, help="Only show what would be terminated.")
    @click.option("--json", "as_json", is_flag=True, help="Show it machine-readable.")
    @force_option
    @click.option(
        "--wait",
        type=click.FloatRange(min=0, max=timedelta(days=1).total_seconds()),
        default=600.0,
        metavar="SECONDS",
        help="How long to wait until nothing is left.  [600]",
    )
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Terminate instances that jobs of mine left behind: those whose time has passed, or all of them."""
        app.warn_of_plugins()
        config = load_from_options(app.registry, values)
        with open_compute(config) as compute:
            _cleanup(config, compute, values)

    return command


def _cleanup(config: JobConfig, compute: Compute, values: dict[str, Any]) -> None:
    now = datetime.now(UTC)
    everything = remaining_instances(compute, config.run.job_id)
    chosen = [instance for instance in everything if _is_meant(instance, values, now)]
    if values["as_json"]:
        click.echo(json.dumps([_facts(instance) for instance in chosen], indent=2))
    else:
        for line in _table(chosen, now):
            click.echo(line)
        kept = len(everything) - len(chosen)
        if kept:
            click.echo(f"{kept} other instances are not expired or not yours; see --all and --any-owner")
    if not chosen or values["only_list"]:
        if not chosen and not values["as_json"]:
            click.echo("Nothing to terminate")
        return
    noun = "instance" if len(chosen) == 1 else "instances"
    confirm(f"terminate {len(chosen)} {noun}", force=values["force"], instead="--list to only show them")
    wanted = frozenset(instance.instance_id for instance in chosen)
    remove_instances(
        compute,
        lambda: [i for i in remaining_instances(compute, config.run.job_id) if i.instance_id in wanted],
        patience=timedelta(seconds=values["wait"]),
        on_wait=lambda left: click.echo(f"Waiting for {len(left)} instances to go", err=True),
    )
    click.echo(f"Terminated {len(chosen)} instances; a listing shows none of them any more", err=values["as_json"])


def _is_meant(instance: Instance, values: dict[str, Any], now: datetime) -> bool:
    if not values["any_owner"] and instance.labels.get("owner") != owner_label():
        return False
    end = expiry(instance)
    return bool(values["every"]) or (end is not None and end <= now)


def _table(instances: Sequence[Instance], now: datetime) -> list[str]:
    if not instances:
        return []
    rows = [("Job", "Instance", "State", "Type", "Zone", "Owner", "Age", "Expires")]
    for instance in instances:
        end = expiry(instance)
        rows.append(
            (
                instance.job_id,
                instance.instance_id,
                instance.state.value,
                instance.instance_type,
                instance.zone,
                instance.labels.get("owner", "?"),
                format_duration(now - instance.created_at),
                "?" if end is None else f"{end:%Y-%m-%d %H:%M} UTC",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _facts(instance: Instance) -> dict[str, Any]:
    end = expiry(instance)
    return {
        "job_id": instance.job_id,
        "instance_id": instance.instance_id,
        "state": instance.state.value,
        "instance_type": instance.instance_type,
        "zone": instance.zone,
        "purchase": instance.purchase.value,
        "owner": instance.labels.get("owner"),
        "created_at": instance.created_at.isoformat(),
        "expires": None if end is None else end.isoformat(),
    }
