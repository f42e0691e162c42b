"""``cloud-tasks list-regions``: list the provider's regions and zones."""

from __future__ import annotations

from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.listing import listing_options, show_rows
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.controller import open_compute
from cloud_tasks.model import Region
from cloud_tasks.registry import Registry
from cloud_tasks.tables import Column

__all__ = ["list_regions"]

_COLUMNS: tuple[Column[Region], ...] = (
    Column(name="name", title="Region", value=lambda region: region.name, aliases=("region",)),
    Column(name="description", title="Description", value=lambda region: region.description),
    Column(name="zone_count", title="Zones", value=lambda region: len(region.zones), align_right=True),
    Column(name="zones", title="Zone names", value=lambda region: region.zones, detail=True),
)
_WITH_ZONES = (*_COLUMNS[:2], Column[Region](name="zones", title="Zones", value=lambda region: region.zones))


def list_regions(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "list-regions",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks list-regions --provider gcp",
            "cloud-tasks list-regions --provider aws --prefix us- --zones",
            "cloud-tasks list-regions --config config.yml --json",
        ),
    )
    @click.option("--prefix", metavar="TEXT", help="Prefix of the region names.")
    @click.option("--zones", is_flag=True, help="Show the zones of each region.")
    @listing_options(_COLUMNS, sort="name", search=False)
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """List the provider's regions."""
        app.start_logging(verbosity=values["verbose"])
        config = load_from_options(app.registry, values)
        with open_compute(config) as compute:
            regions = [region for region in compute.regions() if region.name.startswith(values["prefix"] or "")]
        brief = values["zones"] and not values["detail"] and not values["as_json"]
        show_rows(regions, _WITH_ZONES if brief else _COLUMNS, values, nothing="No regions found")

    return command
