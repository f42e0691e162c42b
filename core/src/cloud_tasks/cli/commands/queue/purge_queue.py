"""``cloud-tasks purge-queue`` and ``delete-queue``: remove messages, or whole queues, after confirmation.

Invariants, each with a test:

1. Nothing is removed without the exact confirmation or ``--force``.
2. The job database marks its tasks as not sent before they are removed: after a crash in between, ``--continue`` sends
   all of them.
3. A purged queue of a job that nothing uses is replaced: another is created under the next name, then it is deleted.
   After a crash in between, it is still recorded, and the next command deletes it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import attrs
import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, force_option, json_option, verbose_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.database import database_of
from cloud_tasks.cli.options.queues import JobQueues, NamedQueue, choice_options, depth_of, job_queues, users_of
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.cli.ui.confirmation import confirm
from cloud_tasks.config import JobConfig
from cloud_tasks.controller import delete_former_queues, may_rename_queues, open_named_queue, with_new_names
from cloud_tasks.errors import NotFoundError, StoreError
from cloud_tasks.plugin import Depth
from cloud_tasks.quantities import counted
from cloud_tasks.registry import Registry
from cloud_tasks.store import Store

__all__ = ["delete_queue", "purge_queue"]


@attrs.frozen(kw_only=True)
class _Removal:
    """One of the two commands."""

    command: str
    summary: str
    consequence: str
    """Effect, as the confirmation prompt shows it, with ``{content}`` and ``{queue}``."""
    answer: str
    """First word of the confirmation; the queue's name follows."""
    done: str
    keeps_queue: bool
    """Whether the job has the queue afterwards, without messages."""


_PURGE = _Removal(
    command="purge-queue",
    summary="Remove all messages from a job's task queue and event queue.\n\nThe queues get new names, unless a `run` "
    "is in progress or instances are left. Unfinished tasks are sent again by `load-queue --continue`, or after some "
    "minutes by a `run` in progress.",
    consequence="remove {content} from {queue}",
    answer="EMPTY",
    done="Emptied",
    keeps_queue=True,
)
_DELETE = _Removal(
    command="delete-queue",
    summary="Delete a job's task queue and event queue; `run --continue` creates them again.",
    consequence="delete {queue} with {content}",
    answer="DELETE",
    done="Deleted",
    keeps_queue=False,
)


def purge_queue(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""
    return _make(registry, _PURGE)


def delete_queue(registry: Registry) -> click.Command:
    """Create the command with the options of core and the installed plugins."""
    return _make(registry, _DELETE)


def _make(registry: Registry, removal: _Removal) -> click.Command:
    @click.command(
        removal.command,
        cls=TopicCommand,
        help=removal.summary,
        epilog=examples(
            f"cloud-tasks {removal.command} --config config.yml",
            f"cloud-tasks {removal.command} --config config.yml --event-queue-only --force",
        ),
    )
    @force_option
    @choice_options
    @json_option
    @verbose_option
    @configuration_options(registry)
    @pass_app
    def command(app: AppContext, /, **values: Any) -> None:
        app.start_logging(verbosity=values["verbose"])
        config = load_from_options(app.registry, values)
        queues = job_queues(config, tasks_only=values["task_queue_only"], events_only=values["event_queue_only"])
        found: list[dict[str, Any]] = []
        for named in queues.chosen:
            removed = _remove(named, queues, config, removal, force=values["force"])
            facts = {"queue": named.name, "kind": f"{named.kind}s", "existed": removed.existed}
            found.append({**facts, "new_queue": removed.new_name} if removal.keeps_queue else facts)
            if not values["as_json"]:
                echo(_described(named, removed, removal))
        if queues.job is not None:
            with _writable(config) as store:
                if store is not None:
                    _delete_former(store, config)
        if values["as_json"]:
            echo(json.dumps(found, indent=2))

    return command


@attrs.frozen(kw_only=True)
class _Removed:
    existed: bool
    new_name: str | None = None
    """Name of the queue that replaced it."""


def _described(named: NamedQueue, removed: _Removed, removal: _Removal) -> str:
    shown = f"{named.kind} queue {named.name}"
    if not removed.existed:
        return f"No {shown} found"
    replaced = f"; the new one is {removed.new_name}" if removed.new_name else ""
    return f"{removal.done} {shown}{replaced}"


def _remove(named: NamedQueue, queues: JobQueues, config: JobConfig, removal: _Removal, *, force: bool) -> _Removed:
    """Confirm and remove."""
    with named.open(config) as queue:
        depth = depth_of(queue)
        if depth is None:
            return _Removed(existed=False)
        users = users_of(queue, config)
        if users and force:
            echo(f"Warning: {named.kind} queue {named.name} is in use by {users}", err=True)
        shown = f"{named.kind} queue {named.name}" + (f", which {users} uses" if users else "")
        confirm(
            removal.consequence.format(content=_messages(depth), queue=shown),
            force=force,
            answer=f"{removal.answer} {named.name}",
            instead="show the messages with `cloud-tasks show-queue --detail`",
        )
        new_name = None
        with _writable(config, warns=True) if queues.job is not None else contextlib.nullcontext() as store:
            if store is not None and named.kind == "task":
                store.withdraw()
            try:
                if store is not None and removal.keeps_queue and _may_replace(named, store):
                    new_name = _replace(named, store, config)
                elif removal.keeps_queue:
                    queue.purge()
                else:
                    queue.delete()
            except NotFoundError:
                return _Removed(existed=False)
    return _Removed(existed=True, new_name=new_name)


def _may_replace(named: NamedQueue, store: Store) -> bool:
    is_current = named.name in (store.job.queue_name, store.job.event_queue_name)
    return is_current and may_rename_queues(store)


def _replace(named: NamedQueue, store: Store, config: JobConfig) -> str:
    """Create the queue with the next name, then delete this one; return the name."""
    is_task = named.kind == "task"
    store.update_job(with_new_names(store.job, tasks=is_task, events=not is_task))
    new = attrs.evolve(named, name=store.job.queue_name if is_task else store.job.event_queue_name)
    with new.open(config) as queue:
        queue.create()
    _delete_former(store, config)
    return new.name


def _delete_former(store: Store, config: JobConfig) -> None:
    delete_former_queues(store, lambda name: open_named_queue(config, store.job.job_id, name), is_last=True)


@contextlib.contextmanager
def _writable(config: JobConfig, *, warns: bool = False) -> Iterator[Store | None]:
    """Open the job database; None where a controller has it open, or it cannot be written."""
    try:
        store = Store.open(database_of(config), job_id=config.run.job_id)
    except StoreError as error:
        if warns:
            echo(f"Warning: {error.message}; the database does not record that the queue was emptied", err=True)
        yield None
        return
    with store:
        yield store


def _messages(depth: Depth) -> str:
    """Return the number of messages as text."""
    if depth.visible is None:
        return "all messages"
    count = depth.visible + (depth.in_flight or 0)
    return counted(count, "message") if depth.exact else f"about {counted(count, 'message')}"
