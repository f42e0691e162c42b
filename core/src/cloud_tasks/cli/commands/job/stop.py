"""``cloud-tasks stop``: end all instances of one job, and be sure of it. The job itself can be continued."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, json_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.database import database_of
from cloud_tasks.config import JobConfig
from cloud_tasks.controller.launch.terminate import remaining_instances, terminate_instances
from cloud_tasks.controller.setup.open_backends import open_compute, open_queue
from cloud_tasks.errors import InputError, StoreError
from cloud_tasks.registry import Registry
from cloud_tasks.store import Store

__all__ = ["stop"]


def stop(registry: Registry) -> click.Command:
    """Make the command; its options are those of core and of the installed plugins."""

    @click.command(
        "stop",
        epilog=examples(
            "cloud-tasks stop --config config.yml",
            "cloud-tasks stop --provider aws --job-id sums --purge-queue",
            "cloud-tasks stop --config config.yml --json",
        ),
    )
    @click.option("--purge-queue", is_flag=True, help="Remove the queued tasks too; --continue sends them again.")
    @click.option(
        "--wait",
        type=click.FloatRange(min=0, max=timedelta(days=1).total_seconds()),
        default=600.0,
        metavar="SECONDS",
        help="How long to wait until nothing is left.  [600]",
    )
    @click.option(
        "--force", "-f", is_flag=True, help="Even while a controller works on the job; it may buy new instances."
    )
    @json_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Terminate all instances of a job and wait until none is left. `run --continue` goes on with the job."""
        app.warn_of_plugins()
        config = load_from_options(app.registry, values)
        if not config.run.job_id:
            raise InputError("no job was named", hint="give --job-id or --config")
        _stop(config, config.run.job_id, values)

    return command


def _stop(config: JobConfig, job_id: str, values: dict[str, Any]) -> None:
    with _records(database_of(config), job_id, force=values["force"]) as store:
        with open_compute(config, job_id) as compute:
            ended = terminate_instances(
                compute,
                lambda: remaining_instances(compute, job_id),
                timeout=timedelta(seconds=values["wait"]),
                on_wait=lambda left: click.echo(f"Waiting for {len(left)} instances to go", err=True),
            )
        if store is not None:
            _settle(store)
        # With --json, standard output is for the program that reads it.
        as_json: bool = values["as_json"]
        for instance in ended:
            told = f"Terminated {instance.instance_id} ({instance.instance_type} in {instance.zone})"
            click.echo(told, err=as_json)
        click.echo(f"No instance of job {job_id} is left" + ("" if ended else "; there was none"), err=as_json)
        purged = values["purge_queue"] and _remove_queue(config, job_id)
        if values["purge_queue"]:
            click.echo("Removed the queued tasks" if purged else "There was no queue to empty", err=as_json)
        if as_json:
            names = [instance.instance_id for instance in ended]
            click.echo(json.dumps({"job_id": job_id, "terminated": names, "queue_removed": bool(purged)}, indent=2))


def _settle(store: Store) -> None:
    """All that the records take for alive is gone, for a complete listing showed nothing."""
    now = datetime.now(UTC)
    for record in store.instances():
        if record.ended_at is not None:
            continue
        if record.instance_id is None:
            store.record_launch_failed(record.client_token, "its job was stopped")
        else:
            store.record_ended(record.instance_id, now, "its job was stopped")


def _remove_queue(config: JobConfig, job_id: str) -> bool:
    """Remove the queued tasks with their queue: `run --continue` makes it anew and sends what is unfinished.

    Returns whether there was one. The event queue stays, since it may hold results that nobody has collected yet.
    """
    with open_queue(config, job_id, config.run.queue_name or job_id) as queue:
        existed = queue.exists()
        queue.delete()
    return existed


@contextlib.contextmanager
def _records(database: Path, job_id: str, *, force: bool) -> Iterator[Store | None]:
    """The job's database, None where there is none. Raises `StoreError` while a controller works on it."""
    if not database.exists():
        yield None
        return
    with contextlib.ExitStack() as stack:
        try:
            store = stack.enter_context(Store.open(database, job_id=job_id))
        except StoreError as error:
            if not force:
                hint = "interrupt it with Ctrl-C, or give --force to end the instances without the database"
                raise StoreError(error.message, hint=hint) from error
            click.echo(f"Warning: {error.message}; the records stay as they are", err=True)
            yield None
            return
        yield store
