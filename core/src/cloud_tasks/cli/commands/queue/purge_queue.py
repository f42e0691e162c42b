"""``cloud-tasks purge-queue`` and ``delete-queue``: remove messages, or whole queues, after confirmation.

Invariants, each with a test:

1. Nothing is removed without the exact confirmation or ``--force``.
2. The job database marks its tasks as not sent before they are removed: after a crash in between, ``--continue`` sends
   all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import click

from cloud_tasks.cli.context import AppContext, pass_app
from cloud_tasks.cli.options.common import examples, force_option, json_option, verbose_option
from cloud_tasks.cli.options.config_options import configuration_options, load_from_options
from cloud_tasks.cli.options.database import database_of
from cloud_tasks.cli.options.queues import NamedQueue, choice_options, chosen_queues, depth_of, users_of
from cloud_tasks.cli.options.topics import TopicCommand
from cloud_tasks.cli.output import echo
from cloud_tasks.cli.ui.confirmation import confirm
from cloud_tasks.config import JobConfig
from cloud_tasks.errors import NotFoundError, StoreError
from cloud_tasks.plugin import Depth, Queue
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
    act: Callable[[Queue], None]


_PURGE = _Removal(
    command="purge-queue",
    summary="Remove all messages from a job's task queue and event queue; keep the queues.\n\nUnfinished tasks are "
    "sent again by `load-queue --continue`, or after some minutes by a `run` in progress.",
    consequence="remove {content} from {queue}",
    answer="EMPTY",
    done="Emptied",
    act=lambda queue: queue.purge(),
)
_DELETE = _Removal(
    command="delete-queue",
    summary="Delete a job's task queue and event queue; `run --continue` creates them again.",
    consequence="delete {queue} with {content}",
    answer="DELETE",
    done="Deleted",
    act=lambda queue: queue.delete(),
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
        found: list[dict[str, Any]] = []
        for named in chosen_queues(
            config, tasks_only=values["task_queue_only"], events_only=values["event_queue_only"]
        ):
            existed = _remove(named, config, removal, force=values["force"])
            found.append({"queue": named.name, "kind": f"{named.kind}s", "existed": existed})
            if not values["as_json"]:
                shown = f"{named.kind} queue {named.name}"
                echo(f"{removal.done} {shown}" if existed else f"No {shown} found")
        if values["as_json"]:
            echo(json.dumps(found, indent=2))

    return command


def _remove(named: NamedQueue, config: JobConfig, removal: _Removal, *, force: bool) -> bool:
    """Confirm and remove; return whether the queue existed."""
    with named.open(config) as queue:
        depth = depth_of(queue)
        if depth is None:
            return False
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
        if named.kind == "task" and named.job_id:
            _record_removal(database_of(config), named.job_id)
        try:
            removal.act(queue)
        except NotFoundError:
            return False
    return True


def _record_removal(database: Path, job_id: str) -> None:
    """Mark the tasks of the queue as not sent, where the job database exists and no controller has it open."""
    if not database.exists():
        return
    try:
        with Store.open(database, job_id=job_id) as store:
            store.withdraw()
    except StoreError as error:
        echo(f"Warning: {error.message}; the database does not record that the queue was emptied", err=True)


def _messages(depth: Depth) -> str:
    """Return the number of messages as text."""
    if depth.visible is None:
        return "all messages"
    count = depth.visible + (depth.in_flight or 0)
    return counted(count, "message") if depth.exact else f"about {counted(count, 'message')}"
