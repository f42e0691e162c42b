"""``cloud-tasks list-images``: list the values of ``image``."""

from __future__ import annotations

from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.listing import listing_options, show_rows
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.controller import open_compute
from cloud_tasks.model import Image
from cloud_tasks.registry import Registry
from cloud_tasks.tables import Column

__all__ = ["OWN_IMAGES", "list_images"]

OWN_IMAGES = "self"
"""`Image.owner` of the account's own images."""

_COLUMNS: tuple[Column[Image], ...] = (
    Column(name="name", title="Name", value=lambda image: image.name),
    Column(name="family", title="Family", value=lambda image: image.family),
    Column(name="architecture", title="Architecture", value=lambda image: image.architecture),
    Column(name="owner", title="Owner", value=lambda image: image.owner, aliases=("source",)),
    Column(name="created", title="Created", value=lambda image: image.created_at, aliases=("creation_time",)),
    Column(name="description", title="Description", value=lambda image: image.description, detail=True),
    Column(name="uri", title="URI", value=lambda image: image.uri, detail=True, aliases=("self_link",)),
)


def list_images(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "list-images",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks list-images --provider gcp --filter ubuntu-2404",
            "cloud-tasks list-images --config config.yml --sort-by -created --limit 10",
            "cloud-tasks list-images --config config.yml --user --detail",
        ),
    )
    @click.option("--user", is_flag=True, help="Include the images of your account.")
    @listing_options(_COLUMNS, sort="family,name")
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """List the provider's boot images."""
        app.start_logging(verbosity=values["verbose"])
        config = load_from_options(app.registry, values)
        with open_compute(config) as compute:
            images = [image for image in compute.images() if values["user"] or image.owner != OWN_IMAGES]
        show_rows(images, _COLUMNS, values, nothing="No images found")

    return command
