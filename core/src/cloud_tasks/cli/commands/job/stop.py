"""``cloud-tasks stop``: terminate all instances of a job and verify it; the job can be resumed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, json_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.database import database_of
from cloud_tasks.cli.options.durations import wait_option
from cloud_tasks.cli.options.missing_record import note_missing_record
from cloud_tasks.cli.options.queues import NamedQueue, job_queues, users_of
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.config import JobConfig
from cloud_tasks.controller import (
    check_recorded_place,
    delete_former_queues,
    forget_secrets,
    note_zones,
    open_compute,
    open_named_queue,
    open_queue,
    owner_label,
    read_launches,
    remaining_instances,
    terminate_instances,
)
from cloud_tasks.errors import InputError, ProviderError, StoreError
from cloud_tasks.model import Instance
from cloud_tasks.plugin import Compute
from cloud_tasks.quantities import counted
from cloud_tasks.registry import Registry
from cloud_tasks.store import InstanceRecord, Store, is_job_database, job_time, writer_of

__all__ = ["stop"]


def stop(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""

    @click.command(
        "stop",
        cls=TopicCommand,
        epilog=examples(
            "cloud-tasks stop --config config.yml",
            "cloud-tasks stop --provider aws --job-id sums --purge-queue",
            "cloud-tasks stop --config config.yml --json",
        ),
    )
    @click.option("--purge-queue", is_flag=True, help="Remove the queued tasks, too; --continue sends them again.")
    @wait_option
    @click.option(
        "--force", "-f", is_flag=True, help="Stop even while `run` controls the job, which may launch new instances."
    )
    @json_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        """Terminate all instances of a job and wait until none is left; `run --continue` resumes the job."""
        app.warn_of_plugins()
        config = load_from_options(app.registry, values)
        if not config.run.job_id:
            raise InputError("no job given", hint="add --job-id or --config")
        _stop(config, config.run.job_id, values)

    return command


def _stop(config: JobConfig, job_id: str, values: dict[str, Any]) -> None:
    database = database_of(config)
    check_recorded_place(database, config)
    # Without a name for the queue, nothing is changed.
    tasks = job_queues(config, tasks_only=True).chosen[0] if values["purge_queue"] else None
    # With --json, standard output is JSON only.
    as_json: bool = values["as_json"]
    if not database.exists() and not values["force"]:
        _refuse_beside_controller(config, job_id)
    with _Records(database, job_id, force=values["force"]) as records:
        launches = records.launches()
        with open_compute(config, job_id) as compute:
            started = records.now()
            recorded = note_zones(compute, launches)
            listed = terminate_instances(
                compute,
                lambda: _own(compute, job_id, recorded),
                timeout=values["wait"],
                recorded=recorded,
                on_wait=lambda text: echo(text, err=True),
            )
            others = len(remaining_instances(compute, job_id))
        forget_secrets(config, job_id)
        # Recorded instances may have terminated before the first listing.
        terminated = {r.instance_id: f"{r.instance_type} in {r.zone}" for r in launches if r.instance_id in recorded}
        terminated |= {i.instance_id: f"{i.instance_type} in {i.zone}" for i in listed}
        for instance_id, place in terminated.items():
            echo(f"Terminated {instance_id} ({place})", err=as_json)
        if others:
            echo(
                f"Left {counted(others, 'instance')} of other users; terminate them with "
                f"`cloud-tasks cleanup --job-id {job_id} --all --any-owner`",
                err=True,
            )
        result = f"Terminated {counted(len(terminated), 'instance')} of job" if terminated else "No instances of job"
        echo(f"{result} {job_id}", err=as_json)
        if not terminated:
            note_missing_record(config)
        purged = tasks is not None and _remove_queue(tasks, config)
        records.delete_former_queues(config)
        if tasks is not None:
            echo("Removed the queued tasks" if purged else "The job has no task queue", err=as_json)
        if as_json:
            facts = {"job_id": job_id, "terminated": list(terminated), "queue_removed": purged}
            echo(json.dumps(facts, indent=2))
        records.update(listed, started)


def _refuse_beside_controller(config: JobConfig, job_id: str) -> None:
    """Refuse to stop a job that a controller with a database elsewhere runs: it would launch new instances."""
    users = ""
    # A queue that cannot be asked is no reason to leave the instances running.
    with (
        contextlib.suppress(ProviderError, InputError),
        open_queue(config, job_id, config.run.queue_name or job_id) as queue,
    ):
        users = users_of(queue, config)
    if users:
        hint = "interrupt it with Ctrl-C, or add --force to terminate the instances, which it may launch again"
        raise StoreError(f"the job is in use by {users}", hint=hint)


def _own(compute: Compute, job_id: str, recorded: Collection[str]) -> list[Instance]:
    """Return the remaining instances that are recorded, or not of another user."""
    owners = ("", owner_label())
    found = remaining_instances(compute, job_id)
    return [i for i in found if i.instance_id in recorded or i.labels.get("owner", "") in owners]


class _Records:
    """The job database of a job to stop. A context manager.

    The instances are terminated in any case: a database that cannot be updated is reported afterwards.

    Raises:
        StoreError: On entering, if a controller has it open (without ``force``) or it is of another job; from
            `update`, if it could not be updated.
    """

    def __init__(self, database: Path, job_id: str, *, force: bool) -> None:
        self._database, self._job_id = database, job_id
        self._store: Store | None = None
        self._problem: StoreError | None = None
        if not database.exists():
            return
        try:
            self._store = Store.open(database, job_id=job_id)
        except StoreError as error:
            if force:
                echo(f"Warning: {error.message}; the database is not updated", err=True)
            elif writer_of(database) is None and _has_job(database, job_id):
                self._problem = error
            else:
                hint = (
                    "interrupt it with Ctrl-C, or add --force to terminate the instances without updating the database"
                )
                raise StoreError(error.message, hint=hint) from error

    def __enter__(self) -> _Records:
        return self

    def __exit__(self, *_: object) -> None:
        if self._store is not None:
            with contextlib.suppress(StoreError):
                self._store.close()

    def launches(self) -> Sequence[InstanceRecord]:
        """Return the recorded launches, as far as the database can be read."""
        if self._store is None:
            return read_launches(self._database, self._job_id)
        try:
            return self._store.instances()
        except StoreError as error:
            self._problem = error
            return ()

    def now(self) -> datetime:
        """Return the time by the clock of the job; that of the machine without its database."""
        try:
            return datetime.now(UTC) if self._store is None else job_time(self._store)
        except StoreError as error:
            self._problem = error
            return datetime.now(UTC)

    def update(self, listed: Sequence[Instance], listed_at: datetime) -> None:
        """Record all instances as terminated, after a complete listing showed none.

        Args:
            listed: Those that an earlier listing showed.
        """
        try:
            if self._store is not None:
                self._store.record_states(listed, listed_at)
                _record_terminated(self._store)
        except StoreError as error:
            self._problem = error
        if self._problem is not None:
            hint = f"{self._problem.hint}; the database still shows the instances" if self._problem.hint else ""
            raise StoreError(self._problem.message, hint=hint) from self._problem

    def delete_former_queues(self, config: JobConfig) -> None:
        """Delete queues that the job's replaced, where the database can be updated."""
        if self._store is not None:
            with contextlib.suppress(StoreError):
                delete_former_queues(
                    self._store, lambda name: open_named_queue(config, self._job_id, name), is_last=True
                )


def _has_job(database: Path, job_id: str) -> bool:
    """Return whether a database that cannot be opened for writing is that of the job, as far as it can be read."""
    try:
        with Store.open(database, read_only=True) as store:
            return store.job.job_id == job_id
    except StoreError:
        return is_job_database(database)


def _record_terminated(store: Store) -> None:
    now = job_time(store)
    for record in store.instances():
        if record.ended_at is not None:
            continue
        if record.instance_id is None:
            store.record_launch_failed(record.client_token, "job stopped", unlisted_at=now)
        else:
            store.record_ended(record.instance_id, now, "job stopped", is_canceled=True)


def _remove_queue(tasks: NamedQueue, config: JobConfig) -> bool:
    """Delete the task queue; return whether it existed. `run --continue` creates another and sends unfinished tasks.

    The event queue stays, since it may hold results that are not collected yet.
    """
    with tasks.open(config) as queue:
        existed = queue.exists()
        queue.delete()
    return existed
