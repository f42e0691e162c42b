"""``cloud-tasks purge-queue`` and ``delete-queue``: remove messages, or the queues with them, after asking.

Invariants, each with a test:

1. Nothing is removed before the exact words were typed, or ``--force`` was given.
2. The job's database records that its tasks are gone before they are: killed in between, ``--continue`` sends them all.
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
from cloud_tasks.cli.options.queues import NamedQueue, choice_options, chosen_queues, depth_of
from cloud_tasks.cli.ui.confirmation import confirm
from cloud_tasks.config import JobConfig
from cloud_tasks.errors import NotFoundError, StoreError
from cloud_tasks.plugin import Depth, Queue
from cloud_tasks.registry import Registry
from cloud_tasks.store import Store

__all__ = ["delete_queue", "purge_queue"]


@attrs.frozen(kw_only=True)
class _Removal:
    command: str
    summary: str
    consequence: str
    """What will happen; with ``{content}`` and ``{queue}``."""
    word: str
    """To be typed before the queue's name."""
    done: str
    act: Callable[[Queue], None]


_PURGE = _Removal(
    command="purge-queue",
    summary="Remove all messages from the task queue and the event queue of a job; the queues stay.\n\nA `run` notices "
    "after some minutes that tasks are missing and sends them again; `load-queue --continue` does it at once.",
    consequence="remove {content} from {queue}",
    word="EMPTY",
    done="Emptied",
    act=lambda queue: queue.purge(),
)
_DELETE = _Removal(
    command="delete-queue",
    summary="Delete the task queue and the event queue of a job; `run --continue` makes them anew.",
    consequence="delete {queue} with {content}",
    word="DELETE",
    done="Deleted",
    act=lambda queue: queue.delete(),
)


def purge_queue(registry: Registry) -> click.Command:
    """Make the command; its options are those of core and of the installed plugins."""
    return _make(registry, _PURGE)


def delete_queue(registry: Registry) -> click.Command:
    """Make the command; its options are those of core and of the installed plugins."""
    return _make(registry, _DELETE)


def _make(registry: Registry, removal: _Removal) -> click.Command:
    @click.command(
        removal.command,
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
                click.echo(f"{removal.done} the {shown}" if existed else f"There is no {shown}")
        if values["as_json"]:
            click.echo(json.dumps(found, indent=2))

    return command


def _remove(named: NamedQueue, config: JobConfig, removal: _Removal, *, force: bool) -> bool:
    """Ask, and do it; returns whether there was such a queue."""
    with named.open(config) as queue:
        depth = depth_of(queue)
        if depth is None:
            return False
        confirm(
            removal.consequence.format(content=_messages(depth), queue=f"the {named.kind} queue {named.name}"),
            force=force,
            answer=f"{removal.word} {named.name}",
            instead="`cloud-tasks show-queue` to show its messages",
        )
        if named.kind == "task" and named.job_id:
            _record_removal(database_of(config), named.job_id)
        try:
            removal.act(queue)
        except NotFoundError:
            return False
    return True


def _record_removal(database: Path, job_id: str) -> None:
    """Make the tasks of the queue pending, where the job has a database here that no other process works on."""
    if not database.exists():
        return
    try:
        with Store.open(database, job_id=job_id) as store:
            store.withdraw()
    except StoreError as error:
        click.echo(f"Warning: {error.message}; it does not record that the queue is emptied", err=True)


def _messages(depth: Depth) -> str:
    """How many messages there are, in words."""
    if depth.visible is None:
        return "all messages"
    count = depth.visible + (depth.in_flight or 0)
    noun = "message" if count == 1 else "messages"
    return f"{count} {noun}" if depth.exact else f"about {count} {noun}"
