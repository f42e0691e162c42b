"""``cloud-tasks list-instance-types``: list instance types that satisfy the constraints, with prices."""

from __future__ import annotations

from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.listing import listing_options, show_rows
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.config import JobConfig
from cloud_tasks.controller import open_compute, open_pricing
from cloud_tasks.quantities import counted
from cloud_tasks.registry import Registry
from cloud_tasks.report import INSTANCE_TYPE_COLUMNS, TypeRow, type_rows
from cloud_tasks.selection import filter_types

__all__ = ["list_instance_types"]


def list_instance_types(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "list-instance-types",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks list-instance-types --provider gcp --region us-central1 --min-cpu 8 --sort-by total_price",
            "cloud-tasks list-instance-types --config config.yml --use-spot --sort-by -vcpu,total_price --limit 20",
            "cloud-tasks list-instance-types --config config.yml --instance-types '^n2-' '^c2-' --detail",
            "cloud-tasks list-instance-types --config config.yml --filter highmem --json",
        ),
    )
    @listing_options(INSTANCE_TYPE_COLUMNS, sort="vcpu,mem,name")
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """List the instance types that satisfy the constraints, with prices."""
        app.start_logging(verbosity=values["verbose"])
        config = load_from_options(app.registry, values)
        rows, rejected = _find(config)
        show_rows(rows, INSTANCE_TYPE_COLUMNS, values, nothing="No matching instance types found")
        if rejected and not values["as_json"]:
            echo(
                f"{counted(rejected, 'other type')} rejected by the constraints; for the reasons: "
                "cloud-tasks plan --rejected",
                err=True,
            )

    return command


def _find(config: JobConfig) -> tuple[list[TypeRow], int]:
    """Return the priced types that satisfy the constraints, and the number of rejected ones."""
    constraints = config.constraints()
    with open_compute(config) as compute, open_pricing(config) as pricing:
        found = filter_types(compute.instance_types(), constraints, constraints.provisioning_model)
        answers = pricing.price(found.requests) if found.requests else ()
    return type_rows(found.requests, answers), len(found.rejected)
