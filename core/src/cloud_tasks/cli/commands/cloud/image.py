"""``cloud-tasks image build``: make a boot image that has the requirements of a job."""

from __future__ import annotations

from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, verbose_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.controller import build_image
from cloud_tasks.registry import Registry

__all__ = ["image"]


def image(registry: Registry) -> click.Command:
    """Create the group with the options of core and the installed plugins."""

    @click.group("image", epilog=examples("cloud-tasks image build --config config.yml"))
    def group() -> None:
        """Make boot images that have the requirements of a job."""

    @group.command(
        "build",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks image build --config config.yml",
            "cloud-tasks image build --provider gcp --requirements numpy astropy --region us-central1",
        ),
    )
    @verbose_option
    @configuration_options(registry)
    @pass_app
    def build(app: AppContext, /, **values: Any) -> None:
        """Make an image with Python, cloud-tasks and the requirements of a job, and print its name.

        Launches one on-demand instance, which is terminated at the end. Instances from the image download only the
        code. An image with the same content is not made again. It costs what the provider asks for its storage.
        """
        app.start_logging(verbosity=values["verbose"])
        config = load_from_options(app.registry, values)
        name = build_image(config, note=lambda text: echo(text, err=True))
        echo(f"run:\n  image: {name}")

    return group
