"""``cloud-tasks setup``: make what a first job needs in the provider's account, show it, or remove it.

Invariants, each with a test:

1. Nothing is made or removed before the list was shown and confirmed; what is as needed is not touched.
2. An item that fails ends the command after those before it; the next call resumes there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import attrs
import click

from cloud_tasks.cli.commands.cloud._setup_texts import configuration_lines, shell_script, terraform_file
from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, force_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.cli.ui.confirmation import confirm
from cloud_tasks.config import JobConfig, delete_record, write_record
from cloud_tasks.controller import open_compute
from cloud_tasks.errors import CloudTasksError, InputError, ProviderError
from cloud_tasks.plugin import AccountSetup, SetupContext, SetupItem
from cloud_tasks.quantities import counted
from cloud_tasks.registry import Registry

__all__ = ["account_setup", "setup"]

_FORMS = {"shell": shell_script, "terraform": terraform_file}


def setup(registry: Registry) -> click.Command:
    """Create the command with the options of the installed plugins."""
    providers = sorted(backend.name for _, backend in registry.all("compute") if backend.setup is not None)

    @click.command(
        "setup",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks setup gcp --project-id my-project --region us-central1",
            "cloud-tasks setup aws --region us-east-1 --print terraform > cloud-tasks.tf",
            "cloud-tasks setup gcp --undo",
        ),
    )
    @click.argument("configuration__provider", metavar="PROVIDER")
    @click.option(
        "--print", "form", type=click.Choice(list(_FORMS)), help="Print the same as a program to be run; make nothing."
    )
    @click.option("--undo", is_flag=True, help="Remove what setup has made and is empty.")
    @force_option
    @configuration_options(registry, keys=("region",), plugins=providers)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Make what a first job needs: services, an identity for the instances, a bucket for what they download.

        PROVIDER is gcp, aws, azure, or another one that has a setup. Shows what is missing, and makes it after a
        confirmation. Jobs then use it where nothing else is configured.
        """
        name = values["configuration__provider"].lower()
        if name not in registry.names("compute"):
            hint = f"use {' or '.join(providers)}" if providers else f"run: pip install 'cloud-tasks[{name}]'"
            raise InputError(f'no provider "{name}" is installed', hint=hint)
        if values["undo"] and values["form"]:
            raise InputError("there is no program that undoes the setup", where="--print", hint="omit it, or --undo")
        app.start_logging()
        config = load_from_options(app.registry, values)
        found = account_setup(config)
        if values["form"]:
            echo(_FORMS[values["form"]](config.compute, found), nl=False)
        elif values["undo"]:
            _undo(config, found, force=values["force"])
        else:
            _make(config, found, force=values["force"])

    return command


def account_setup(config: JobConfig) -> AccountSetup:
    """Return the setup of the chosen provider. Raises `InputError` for one that needs none."""
    backend = config.registry.compute(config.compute)
    if backend.setup is None:
        raise InputError(f"{config.compute} needs no setup", hint="continue with: cloud-tasks run")
    region = config.run.region
    context = SetupContext(region=region, queue=config.backends.get("queue", ""))
    found = backend.setup(config.settings_for("compute", config.compute), context)
    # Instances beside their bucket need no traffic between regions.
    return attrs.evolve(found, settings={**({"run.region": region} if region else {}), **found.settings})


def _check_region(config: JobConfig) -> None:
    """Refuse a region that the provider does not have, if it can be asked yet: its services may not be enabled."""
    region = config.run.region
    if region is None:
        return
    with contextlib.suppress(ProviderError), open_compute(config) as compute:
        known = {each.name for each in compute.regions()}
        if known and region not in known:
            hint = f"see: cloud-tasks list-regions --provider {config.compute}"
            raise InputError(f'region "{region}" not found', where=config.place("run.region"), hint=hint)


def _make(config: JobConfig, found: AccountSetup, *, force: bool) -> None:
    _check_region(config)
    missing = list(_missing(found))
    if missing:
        confirm(f"make {counted(len(missing), 'item')} in {found.account}", force=force, instead="--print to see how")
        _each([(item, item.make) for item in missing], done="made")
        echo()
    echo(f"{found.account} has what jobs need. Where nothing else is configured, jobs use:")
    echo("\n".join(f"  {line}" for line in configuration_lines(found)))
    file = write_record(config.compute, os.environ, identity=found.identity, settings=found.settings)
    if file is None:
        echo("No folder for settings is writable: add these lines to the configuration of each job.", err=True)
    else:
        echo(f"Recorded in {file}")
        region = "" if "run.region" in found.settings else " --region REGION"
        echo(f"\nNext: cloud-tasks run --program PROGRAM.py --task-file TASKS.json --provider {config.compute}{region}")


def _missing(found: AccountSetup) -> Iterator[SetupItem]:
    """Yield the items that are not as needed, and show all."""
    echo(f"{found.account}: what a first job needs\n")
    for item in found.items:
        problem = item.look()
        echo(f"  {'ok     ' if not problem else 'to make'}  {item.subject}: {item.purpose}")
        if problem:
            if problem != "missing":
                echo(f"           now: {problem}")
            yield item
    echo()


def _undo(config: JobConfig, found: AccountSetup, *, force: bool) -> None:
    echo("\n".join([f"{found.account}: what setup makes\n", *(f"  {item.subject}" for item in found.items), ""]))
    confirm(f"remove what setup has made in {found.account} and is empty", force=force)
    _each([(item, partial(_remove, item)) for item in reversed(found.items)], done="removed")
    delete_record(config.compute, os.environ, identity=found.identity)


def _remove(item: SetupItem) -> str | None:
    """Remove an item; return why it is kept, an empty text if it is removed, None if there was none."""
    with contextlib.suppress(CloudTasksError):
        if item.look() == "missing":
            return None
    return item.remove()


def _each(items: Sequence[tuple[SetupItem, Callable[[], str | None]]], *, done: str) -> None:
    """Call the function of each item, and show what it did."""
    for item, function in items:
        try:
            kept = function()
        except CloudTasksError as error:
            # With its options, which no record has yet.
            hint = f"{error.hint}; then repeat this command" if error.hint else "repeat this command"
            kind = InputError if isinstance(error, InputError) else CloudTasksError
            raise kind(f"{item.subject}: {error.message}", hint=hint) from error
        if kept:
            echo(f"  kept     {item.subject}: {kept}")
        else:
            echo(f"  {'absent' if kept is None and done == 'removed' else done:<7}  {item.subject}")
