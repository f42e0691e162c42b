"""``cloud-tasks cleanup``: find and terminate leftover instances of all jobs."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import all_regions_option, examples, force_option, json_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.database import database_of
from cloud_tasks.cli.options.durations import wait_option
from cloud_tasks.cli.options.listing import echo_table, note_region
from cloud_tasks.cli.options.missing_record import note_missing_record
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.cli.ui.confirmation import confirm
from cloud_tasks.config import JobConfig, Layer
from cloud_tasks.controller import (
    check_recorded_place,
    expiry,
    open_regions,
    owner_label,
    remaining_instances,
    terminate_instances,
)
from cloud_tasks.model import Instance
from cloud_tasks.plugin import Compute
from cloud_tasks.quantities import counted, format_duration
from cloud_tasks.registry import Registry
from cloud_tasks.tables import Column, plain_rows

__all__ = ["cleanup"]

_COLUMNS: tuple[Column[Instance], ...] = (
    Column(name="job_id", title="Job", value=lambda i: i.job_id),
    Column(name="instance_id", title="Instance", value=lambda i: i.instance_id),
    Column(name="state", title="State", value=lambda i: i.state),
    Column(name="instance_type", title="Type", value=lambda i: i.instance_type),
    Column(name="zone", title="Zone", value=lambda i: i.zone),
    Column(name="purchase", title="Provisioning", value=lambda i: i.provisioning_model),
    Column(name="owner", title="Owner", value=lambda i: i.labels.get("owner")),
    Column(name="created_at", title="Created", value=lambda i: i.created_at, detail=True),
    Column(name="expires", title="Expires", value=expiry),
)


def cleanup(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "cleanup",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks cleanup --provider gcp --list",
            "cloud-tasks cleanup --provider gcp --all --force",
            "cloud-tasks cleanup --config config.yml --any-owner --json --list",
        ),
    )
    @click.option("--all", "every", is_flag=True, help="Include instances that have not expired, and pending ones.")
    @click.option("--any-owner", is_flag=True, help="Include instances of other users and without an owner.")
    @click.option("--list", "only_list", is_flag=True, help="Show the instances; terminate nothing.")
    @all_regions_option
    @json_option
    @force_option
    @wait_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Terminate leftover instances of all your jobs.

        Without options: your instances whose maximum lifetime has passed. It counts from the start of an instance, so a
        pending one is included with --all only. A job id restricts it to
        that job, except one in the configuration file.
        """
        app.warn_of_plugins()
        config = load_from_options(app.registry, values)
        job_id = config.run.job_id if _is_narrowed(config) else None
        if config.run.job_id and not values["all_regions"]:
            check_recorded_place(database_of(config), config)
        note_region(config, every=values["all_regions"])
        with open_regions(config, every=values["all_regions"]) as regions:
            _cleanup(config, regions, values, job_id)

    return command


def _is_narrowed(config: JobConfig) -> bool:
    """Return whether the command names a job; that of a configuration file is one of all jobs."""
    origin = config.origins.get("run.job_id")
    return origin is not None and origin.layer >= Layer.ENVIRONMENT


def _cleanup(config: JobConfig, regions: Sequence[Compute], values: dict[str, Any], job_id: str | None) -> None:
    """Terminate the chosen instances.

    Args:
        job_id: Restrict to this job; None for all jobs.
    """
    now, scope = datetime.now(UTC), f" of job {job_id}" if job_id else ""
    listed = [(compute, remaining_instances(compute, job_id)) for compute in regions]
    everything = [instance for _, instances in listed for instance in instances]
    chosen = [instance for instance in everything if _is_chosen(instance, values, now)]
    _show(chosen, others=len(everything) - len(chosen), scope=scope, now=now, as_json=values["as_json"])
    if not everything:
        note_missing_record(config)
    if not chosen or values["only_list"]:
        return
    confirm(f"terminate {counted(len(chosen), 'instance')}", force=values["force"], instead="--list to only show them")
    ids = frozenset(instance.instance_id for instance in chosen)
    for compute, instances in listed:
        if not ids.isdisjoint(instance.instance_id for instance in instances):
            _terminate(compute, job_id, ids.intersection(i.instance_id for i in instances), values["wait"])
    # Not that no other is left: a listing of all regions may lack zones, which the backend reports.
    echo(f"Terminated {counted(len(chosen), 'instance')}; no listing shows them any more", err=values["as_json"])


def _terminate(compute: Compute, job_id: str | None, ids: Collection[str], timeout: timedelta) -> None:
    terminate_instances(
        compute,
        lambda: [i for i in remaining_instances(compute, job_id) if i.instance_id in ids],
        timeout=timeout,
        recorded=ids,
        on_wait=lambda text: echo(text, err=True),
    )


def _show(chosen: list[Instance], *, others: int, scope: str, now: datetime, as_json: bool) -> None:
    if as_json:
        echo(json.dumps(plain_rows(chosen, _COLUMNS), indent=2))
        return
    if chosen:
        age = Column[Instance](name="age", title="Age", value=lambda i: format_duration(now - i.created_at))
        echo_table(chosen, [*(column for column in _COLUMNS if not column.detail), age])
    if others:
        echo(
            f"Skipped {counted(others, 'other instance')}{scope}, not expired or not yours; add --all or --any-owner "
            "to include them"
        )
    if not chosen:
        echo(f"Nothing to terminate{scope}")


def _is_chosen(instance: Instance, values: dict[str, Any], now: datetime) -> bool:
    if not values["any_owner"] and instance.labels.get("owner") != owner_label():
        return False
    end = expiry(instance)
    return bool(values["every"]) or (end is not None and end <= now)
