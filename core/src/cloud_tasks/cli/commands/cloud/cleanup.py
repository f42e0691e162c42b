"""``cloud-tasks cleanup``: find and terminate leftover instances of all jobs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, force_option, json_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.durations import wait_option
from cloud_tasks.cli.options.listing import echo_table
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.cli.ui.confirmation import confirm
from cloud_tasks.config import JobConfig
from cloud_tasks.controller import expiry, open_compute, owner_label, remaining_instances, terminate_instances
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
    @click.option("--all", "every", is_flag=True, help="Include instances that have not expired.")
    @click.option("--any-owner", is_flag=True, help="Include instances of other users and without an owner.")
    @click.option("--list", "only_list", is_flag=True, help="Show the instances; terminate nothing.")
    @json_option
    @force_option
    @wait_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Terminate leftover instances of all your jobs.

        Without options: your instances whose maximum lifetime has passed.
        """
        app.warn_of_plugins()
        config = load_from_options(app.registry, values)
        with open_compute(config) as compute:
            _cleanup(config, compute, values)

    return command


def _cleanup(config: JobConfig, compute: Compute, values: dict[str, Any]) -> None:
    now = datetime.now(UTC)
    everything = remaining_instances(compute, config.run.job_id)
    chosen = [instance for instance in everything if _is_chosen(instance, values, now)]
    _show(chosen, others=len(everything) - len(chosen), now=now, as_json=values["as_json"])
    if not chosen or values["only_list"]:
        return
    confirm(f"terminate {counted(len(chosen), 'instance')}", force=values["force"], instead="--list to only show them")
    ids = frozenset(instance.instance_id for instance in chosen)
    terminate_instances(
        compute,
        lambda: [i for i in remaining_instances(compute, config.run.job_id) if i.instance_id in ids],
        timeout=values["wait"],
        recorded=ids,
        on_wait=lambda text: echo(text, err=True),
    )
    echo(f"Terminated {counted(len(chosen), 'instance')}; verified by a complete listing", err=values["as_json"])


def _show(chosen: list[Instance], *, others: int, now: datetime, as_json: bool) -> None:
    if as_json:
        echo(json.dumps(plain_rows(chosen, _COLUMNS), indent=2))
        return
    if chosen:
        age = Column[Instance](name="age", title="Age", value=lambda i: format_duration(now - i.created_at))
        echo_table(chosen, [*(column for column in _COLUMNS if not column.detail), age])
    if others:
        echo(
            f"Skipped {counted(others, 'other instance')}, not expired or not yours; add --all or --any-owner to "
            "include them"
        )
    if not chosen:
        echo("Nothing to terminate")


def _is_chosen(instance: Instance, values: dict[str, Any], now: datetime) -> bool:
    if not values["any_owner"] and instance.labels.get("owner") != owner_label():
        return False
    end = expiry(instance)
    return bool(values["every"]) or (end is not None and end <= now)
