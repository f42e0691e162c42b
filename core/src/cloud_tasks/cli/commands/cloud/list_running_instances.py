"""``cloud-tasks list-running-instances``: list the instances of a job, of all jobs, or of the whole account."""

from __future__ import annotations

from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import all_regions_option, examples
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.database import database_of
from cloud_tasks.cli.options.listing import listing_options, note_region, show_rows
from cloud_tasks.cli.options.missing_record import note_missing_record
from cloud_tasks.cli.options.queues import job_of
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.config import JobConfig, Layer
from cloud_tasks.controller import check_place, expiry, open_regions, place_of
from cloud_tasks.errors import InputError
from cloud_tasks.model import Instance, InstanceState
from cloud_tasks.registry import Registry
from cloud_tasks.tables import Column

__all__ = ["list_running_instances"]

_COLUMNS: tuple[Column[Instance], ...] = (
    Column(name="id", title="Instance", value=lambda i: i.instance_id, aliases=("instance_id",)),
    Column(name="job_id", title="Job", value=lambda i: i.job_id),
    Column(name="state", title="State", value=lambda i: i.state),
    Column(name="reason", title="Reason", value=lambda i: i.reason),
    Column(name="type", title="Type", value=lambda i: i.instance_type, aliases=("instance_type",)),
    Column(name="zone", title="Zone", value=lambda i: i.zone),
    Column(name="purchase", title="Provisioning", value=lambda i: i.provisioning_model),
    Column(name="created", title="Created", value=lambda i: i.created_at, aliases=("creation_time",)),
    Column(name="address", title="Address", value=lambda i: i.address, detail=True),
    Column(name="boot_disk", title="Boot disk", value=lambda i: i.boot_disk_type, detail=True),
    Column(name="owner", title="Owner", value=lambda i: i.labels.get("owner", ""), detail=True),
    Column(name="run_id", title="Run", value=lambda i: i.labels.get("run", ""), detail=True),
    Column(name="expires", title="Expires", value=expiry, detail=True),
)


def list_running_instances(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "list-running-instances",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks list-running-instances --config config.yml",
            "cloud-tasks list-running-instances --provider gcp --sort-by type,-created",
            "cloud-tasks list-running-instances --provider aws --all-instances --json",
        ),
    )
    @click.option("--all-instances", is_flag=True, help="Include all jobs and unmanaged instances.")
    @click.option(
        "--include-terminated", is_flag=True, help="Include terminated instances that the provider still lists."
    )
    @all_regions_option
    @listing_options(_COLUMNS, sort="job_id,type,zone,id", search=False)
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """List the running instances of a job, or of all jobs if no job is given."""
        app.start_logging(verbosity=values["verbose"])
        config = load_from_options(app.registry, values)
        all_instances = values["all_instances"]
        if all_instances and _was_given("run.job_id", config):
            raise InputError("--all-instances and --job-id exclude each other", hint="give one of them")
        job_id = None if all_instances else config.run.job_id
        if job_id and (job := job_of(config)) is not None:
            where = str(database_of(config))
            check_place(job, place_of(config, ask=False, kinds=("compute",)), where=where)
        note_region(config, every=values["all_regions"])
        listed: dict[str, Instance] = {}
        with open_regions(config, every=values["all_regions"]) as regions:
            for compute in regions:
                part = compute.instances(job_id, include_terminated=values["include_terminated"], foreign=all_instances)
                listed |= {instance.instance_id: instance for instance in part}
        found = list(listed.values())
        if not values["include_terminated"]:
            found = [instance for instance in found if instance.state is not InstanceState.TERMINATED]
        scope = "" if all_instances else f" of job {job_id}" if job_id else " of any job"
        if not found and job_id:
            note_missing_record(config)
        has_reasons = values["as_json"] or any(instance.reason for instance in found)
        columns = [column for column in _COLUMNS if has_reasons or column.name != "reason"]
        show_rows(found, columns, values, nothing=f"No running instances{scope} found")

    return command


def _was_given(key: str, config: JobConfig) -> bool:
    origin = config.origins.get(key)
    return origin is not None and origin.layer is Layer.COMMAND_LINE
